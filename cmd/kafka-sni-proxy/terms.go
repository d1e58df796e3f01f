package main

import (
	"net/url"
	"regexp"
	"strings"

	"kafka-sni-proxy/internal/config"
)

// What the program says about settings is written in terms of flags. Whoever has a
// configuration file is told the file's keys instead.

// settingName returns what a setting is called: a flag, or a key of the file.
func (a *app) settingName(path string) string {
	if a.file == "" {
		return flagName(path)
	}
	return path
}

// clusterText is text about a cluster.
func (a *app) clusterText(name, text string) string {
	if a.file == "" {
		return text
	}
	return config.ClusterPath(name, "") + " " + a.inTerms(text)
}

// hint says what an operator can do about a failure.
func (a *app) hint(err error) string { return a.inTerms(hint(err)) }

// inTerms puts the file's keys in the place of flags, if there is a file.
func (a *app) inTerms(text string) string {
	if a.file == "" {
		return text
	}
	return inFileTerms(text)
}

// flagInText is a flag in a text, or a whole command with flags, which stays as it is.
var flagInText = regexp.MustCompile(`kafka-sni-proxy( --[a-z-]+( [^\s-]\S*)?)+|--[a-z][a-z-]*[a-z]`)

func inFileTerms(text string) string {
	return flagInText.ReplaceAllStringFunc(text, func(flag string) string {
		if key, ok := keysOfFlags[flag]; ok {
			return key
		}
		return flag
	})
}

// keysOfFlags are the keys of the settings that flags are for, where a flag's name is not the
// key.
var keysOfFlags = map[string]string{
	"--cert":                       "certificates",
	"--key":                        "certificates",
	"--mtls-enable":                "client-certificates.require",
	"--ca-certs":                   "client-certificates.ca-certs",
	"--crl":                        "client-certificates.crl",
	"--upstream-ca-certs":          "upstream-tls.ca-certs",
	"--trust-upstream-certs":       "upstream-tls.trust-any",
	"--upstream-cert":              "upstream-tls.cert",
	"--upstream-key":               "upstream-tls.key",
	"--admin-bind":                 "admin.bind",
	"--admin-token-file":           "admin.token-file",
	"--admin-cert":                 "admin.cert",
	"--admin-key":                  "admin.key",
	"--admin-client-ca-certs":      "admin.client-ca-certs",
	"--admin-pprof":                "admin.pprof",
	"--max-frame-bytes":            "limits.max-frame",
	"--max-connections":            "limits.max-connections",
	"--max-handshakes-per-address": "limits.max-handshakes-per-address",
	"--handshake-timeout":          "timeouts.handshake",
	"--dial-timeout":               "timeouts.dial",
	"--idle-timeout":               "timeouts.idle",
	"--max-connection-age":         "timeouts.connection-age",
	"--tcp-user-timeout":           "timeouts.tcp-user",
	"--drain-timeout":              "timeouts.drain",
	"--log-format":                 "log.format",
	"--access-log":                 "log.access",
	"--trace-endpoint":             "trace.endpoint",
	"--trace-connections":          "trace.connections",
	"--trace-requests":             "trace.requests",
	"--sni-suffix":                 "sni-suffix",
	"--upstream":                   "upstream",
	"--bind":                       "bind",
	"--advertised-port":            "advertised-port",
	"--broker-mapping-rule":        "broker-mapping-rule",
	"--allow-missing-sni":          "allow-missing-sni",
	"--hosts-file":                 "hosts-file",
	"--routes-file":                "routes-file",
}

// redacted returns a gate's address without its password.
func redacted(via config.Secret) string {
	u, err := url.Parse(string(via))
	if err != nil {
		return via.String()
	}
	return strings.Replace(u.Redacted(), ":xxxxx@", ":***@", 1)
}
