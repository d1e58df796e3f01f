package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"kafka-sni-proxy/internal/config"
)

// configuration is what the program is told to do, by flags or by a file.
type configuration struct {
	config   *config.Config
	wrong    usageErrors
	warnings []string
	// text says what is wrong with a setting, in terms of where it was written.
	text func(*config.Error) string
	file *config.File // nil for flags
}

// secretFiles are the files that secrets were read from.
func (c *configuration) secretFiles() []string {
	if c.file == nil {
		return nil
	}
	return c.file.SecretFiles
}

// configuration returns what the flags, or the file that they name, say now.
func (f *flags) configuration() *configuration {
	if f.configFile == "" {
		c := &configuration{config: f.config, text: flagText}
		c.wrong, c.warnings = f.check()
		return c
	}
	if f.configFile == standardInput {
		c := unreadable(errors.New("--config: standard input cannot be read again when the configuration changes: name a file"))
		c.wrong = append(f.errors, c.wrong...)
		return c
	}
	c := readConfiguration(f.configFile, nil)
	if f.logLevelGiven {
		c.config.Log.Level = f.logLevel
	}
	c.validate()
	c.wrong = append(f.errors, c.wrong...)
	c.warnings = append(f.warnings, c.warnings...)
	return c
}

// check returns all that is wrong with the flags themselves, and warnings.
func (f *flags) check() (wrong usageErrors, warnings []string) {
	wrong, warnings = f.errors, f.warnings
	if f.force {
		wrong.add("force", errors.New("goes with --generate-certs only: leave it out to run the proxy"))
	}
	if f.yes {
		wrong.add("yes", errors.New("goes with --save-upstream-ca only: leave it out to run the proxy"))
	}
	if f.listener.ClientCertificates.Require && f.mtlsDisable {
		wrong = append(wrong, errors.New("--mtls-enable, --mtls-disable: contradict each other: leave one of them out"))
		f.listener.ClientCertificates.Require = false // one error is enough
	}
	f.listener.ClientCertificates.CRL = nil
	if f.crl != "" {
		f.listener.ClientCertificates.CRL = []string{f.crl}
	}
	f.config.Log.Level = f.logLevel
	bad, doubtful := f.config.Validate()
	for _, err := range bad {
		wrong = append(wrong, errors.New(flagText(err)))
	}
	for _, warning := range doubtful {
		warnings = append(warnings, flagText(warning))
	}
	return wrong, warnings
}

// standardInput is the name of a configuration file that is none.
const standardInput = "-"

// readConfiguration reads a configuration file, "-" being standard input. It looks at its form
// alone.
func readConfiguration(path string, stdin io.Reader) *configuration {
	name, data, err := path, []byte(nil), error(nil)
	if path == standardInput {
		name = "standard input"
		data, err = io.ReadAll(io.LimitReader(stdin, config.MaxFile+1))
	} else {
		data, err = readFile(path)
	}
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%s does not exist: correct the path; kafka-sni-proxy config from-flags writes such a file", path)
		}
		return unreadable(err)
	}
	parsed, file, wrong := config.Read(name, data, config.Env{Lookup: os.LookupEnv, ReadFile: readFile})
	c := &configuration{config: parsed, text: file.Text, file: file}
	for _, e := range wrong {
		c.wrong = append(c.wrong, errors.New(file.Text(e)))
	}
	return c
}

// unreadable is a configuration that there is not.
func unreadable(err error) *configuration {
	return &configuration{config: config.New(), wrong: usageErrors{err}, text: (*config.Error).Error}
}

// readFile reads a file, or as much of it as shows that it is too long to be one of ours.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, config.MaxFile+1))
}

// validate looks at the values. When the form is wrong already, what is missing may be there
// under a wrong name, so only that is said.
func (c *configuration) validate() {
	if len(c.wrong) > 0 {
		return
	}
	wrong, warnings := c.config.Validate()
	c.file.Sort(wrong)
	c.file.Sort(warnings)
	for _, e := range wrong {
		c.wrong = append(c.wrong, errors.New(inFileTerms(c.text(e))))
	}
	for _, e := range warnings {
		c.warnings = append(c.warnings, inFileTerms(firstLine(c.text(e))))
	}
}

// firstLine returns what is said of a mistake, without the line of the file that shows it. A log
// has one line for each mistake.
func firstLine(text string) string {
	first, _, _ := strings.Cut(text, "\n")
	return first
}

// goWithConfig are the flags that may be given beside --config: they are no settings.
var goWithConfig = map[string]bool{"config": true, "log-level": true, "help": true, "version": true, "generate-certs": true, "force": true, saveUpstreamCA: true, "yes": true}

// checkFlagsWithConfig finds flags and variables that do not go with --config.
func (f *flags) checkFlagsWithConfig(fs *pflag.FlagSet) {
	f.logLevelGiven = fs.Changed("log-level")
	if f.configFile == "" {
		return
	}
	settings := startFlags()
	fs.Visit(func(flag *pflag.Flag) {
		if settings.Lookup(flag.Name) != nil && !goWithConfig[flag.Name] {
			what := "--" + flag.Name
			if v := f.variables[flag.Name]; v != "" {
				what = v
			}
			f.errors = append(f.errors, fmt.Errorf("%s: does not go with --config: the file is the whole configuration; its setting there is %s", what, inFileTerms("--"+flag.Name)))
		}
	})
}
