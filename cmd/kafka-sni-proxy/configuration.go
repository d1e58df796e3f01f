package main

import (
	"errors"

	"kafka-sni-proxy/internal/config"
)

// configuration is what the program is told to do, by flags or by a file.
type configuration struct {
	config   *config.Config
	wrong    usageErrors
	warnings []string
	// text says what is wrong with a setting, in terms of where it was written.
	text func(*config.Error) string
}

// configuration returns what the flags, or the file that they name, say now.
func (f *flags) configuration() *configuration {
	c := &configuration{config: f.config, text: flagText}
	c.wrong, c.warnings = f.check()
	return c
}

// check returns all that is wrong with the flags themselves, and warnings.
func (f *flags) check() (wrong usageErrors, warnings []string) {
	wrong, warnings = f.errors, f.warnings
	if f.force {
		wrong.add("force", errors.New("goes with --generate-certs only: leave it out to run the proxy"))
	}
	if f.listener.ClientCertificates.Require && f.mtlsDisable {
		wrong = append(wrong, errors.New("--mtls-enable, --mtls-disable: contradict each other: leave one of them out"))
		f.listener.ClientCertificates.Require = false // one error is enough
	}
	f.listener.ClientCertificates.CRL = nil
	if f.crl != "" {
		f.listener.ClientCertificates.CRL = []string{f.crl}
	}
	bad, doubtful := f.config.Validate()
	for _, err := range bad {
		wrong = append(wrong, errors.New(flagText(err)))
	}
	for _, warning := range doubtful {
		warnings = append(warnings, flagText(warning))
	}
	return wrong, warnings
}
