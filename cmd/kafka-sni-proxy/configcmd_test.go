package main

import (
	"bytes"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"kafka-sni-proxy/internal/config"
)

// flagValues has a value that is not the default for each flag that is a setting.
var flagValues = map[string]string{
	"sni-suffix":                 "*.Kafka.Example.",
	"upstream":                   " up.example:9092,,up2.example:9092",
	"bind":                       "[::]:9093",
	"advertised-port":            "19092",
	"broker-mapping-rule":        `^(?P<n>b\d+)\..*$::${n}-$1-${1}.kafka.example`,
	"allow-missing-sni":          "true",
	"cert":                       "my.pem",
	"key":                        "my: key.pem",
	"mtls-enable":                "true",
	"ca-certs":                   "${HOME}/ca.pem",
	"crl":                        "revoked.pem",
	"upstream-ca-certs":          "up.pem",
	"trust-upstream-certs":       "true",
	"upstream-cert":              "client.pem",
	"upstream-key":               "client_key.pem",
	"hosts-file":                 "hosts",
	"routes-file":                "routes",
	"max-frame-bytes":            "1000001",
	"max-connections":            "7",
	"max-handshakes-per-address": "8",
	"handshake-timeout":          "1500ms",
	"dial-timeout":               "3s",
	"idle-timeout":               "4h",
	"max-connection-age":         "5m",
	"tcp-user-timeout":           "0s",
	"admin-bind":                 ":9090",
	"admin-token-file":           "token",
	"admin-cert":                 "admin.pem",
	"admin-key":                  "admin_key.pem",
	"admin-client-ca-certs":      "operators.pem",
	"admin-pprof":                "true",
	"drain-timeout":              "0s",
	"log-level":                  "debug",
	"log-format":                 "json",
	"access-log":                 "access.log",
	"trace-endpoint":             "http://localhost:4318",
	"trace-connections":          "0.25",
	"trace-requests":             "0.000001",
}

// notSettings are the flags that a file has no settings for.
var notSettings = map[string]bool{"config": true, "mtls-disable": true, "generate-certs": true, "force": true, saveUpstreamCA: true, "yes": true, "help": true, "version": true}

// excludes are flags that cannot be given with another one.
var excludes = map[string]string{"trust-upstream-certs": "upstream-ca-certs"}

func TestTheFileOfFlagsMeansTheSame(t *testing.T) {
	base := []string{"--sni-suffix=kafka.example", "--upstream=up.example:9092"}
	var all []string
	newFlagSetOfAll().VisitAll(func(f *pflag.Flag) {
		switch value, ok := flagValues[f.Name]; {
		case notSettings[f.Name]:
		case !ok:
			t.Errorf("--%s has no value in this test", f.Name)
		default:
			arg := "--" + f.Name + "=" + value
			args := []string{arg}
			for _, b := range base {
				if !strings.HasPrefix(arg, b[:strings.Index(b, "=")+1]) {
					args = append(args, b)
				}
			}
			if strings.HasPrefix(f.Name, "admin-") && f.Name != "admin-bind" {
				args = append(args, "--admin-bind=:9090")
			}
			switch f.Name {
			case "admin-cert", "admin-client-ca-certs":
				args = append(args, "--admin-key=admin_key.pem")
				if f.Name == "admin-client-ca-certs" {
					args = append(args, "--admin-cert=admin.pem")
				}
			case "admin-key":
				args = append(args, "--admin-cert=admin.pem")
			case "mtls-enable":
				args = append(args, "--ca-certs=ca.pem")
			case "upstream-cert":
				args = append(args, "--upstream-key=k.pem")
			case "upstream-key":
				args = append(args, "--upstream-cert=c.pem")
			}
			checkFromFlags(t, args)
			if excludes[f.Name] == "" {
				all = append(all, arg)
			}
		}
	})
	checkFromFlags(t, base)
	checkFromFlags(t, all)
}

func newFlagSetOfAll() *pflag.FlagSet {
	fs := newFlagSet()
	newFlags().define(fs)
	return fs
}

// checkFromFlags checks that the file which is made of flags means what they mean.
func checkFromFlags(t *testing.T, args []string) {
	t.Helper()
	var file bytes.Buffer
	if err := configFromFlags(args, &file); err != nil {
		t.Errorf("%q: %v", args, err)
		return
	}
	f, fs := newFlags(), newFlagSet()
	f.define(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	want := f.configuration()
	got := readConfiguration(standardInput, bytes.NewReader(file.Bytes()))
	got.validate()
	if len(want.wrong)+len(got.wrong) > 0 {
		t.Fatalf("%q: %v, %v of\n%s", args, want.wrong, got.wrong, file.String())
	}
	if crl := &want.config.Listeners[0].ClientCertificates.CRL; len(*crl) == 0 {
		*crl = nil
	}
	if !reflect.DeepEqual(got.config, want.config) {
		t.Errorf("%q: read again it is\n%+v %+v\nwant\n%+v %+v\n%s", args, got.config, got.config.Clusters["kafka"], want.config, want.config.Clusters["kafka"], file.String())
	}
}

func TestTheFileOfAFewFlagsIsShort(t *testing.T) {
	var file bytes.Buffer
	if err := configFromFlags([]string{"--sni-suffix=kafka.example", "--upstream=up.example:9092"}, &file); err != nil {
		t.Fatal(err)
	}
	if lines := strings.Count(file.String(), "\n"); lines > 11 {
		t.Errorf("%d lines:\n%s", lines, file.String())
	}
}

// Each key that a flag stands for exists, so that nobody is sent to look for another one.
func TestFlagsAreCalledByKeysThatExist(t *testing.T) {
	c := config.Default()
	c.Clusters[config.DefaultCluster].Upstream = []string{"up.example:9092"}
	keys := settingPaths(reflect.TypeOf(*c), "")
	newFlagSetOfAll().VisitAll(func(f *pflag.Flag) {
		if notSettings[f.Name] || f.Name == "log-level" {
			return
		}
		if key := inFileTerms("--" + f.Name); !keys[key] {
			t.Errorf("--%s is called %s in terms of a file, and there is no such setting", f.Name, key)
		}
	})
}

// settingPaths returns the paths of all settings, those of listeners and clusters without
// what they are in.
func settingPaths(t reflect.Type, path string) map[string]bool {
	all := map[string]bool{path: true}
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice:
		return settingPaths(t.Elem(), path)
	case reflect.Map:
		return settingPaths(t.Elem(), "")
	case reflect.Struct:
		for i := range t.NumField() {
			key, _, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ",")
			inside := strings.TrimPrefix(path+"."+key, ".")
			switch {
			case key == "listeners":
				inside = ""
			case key == "":
				inside = path
			}
			for p := range settingPaths(t.Field(i).Type, strings.TrimSuffix(inside, ".")) {
				all[p] = true
			}
		}
	}
	return all
}

func TestEndlessFilesAreNotReadToTheirEnd(t *testing.T) {
	if _, err := os.Stat("/dev/zero"); err != nil {
		t.Skip("there is no /dev/zero")
	}
	c := readConfiguration("/dev/zero", nil)
	if len(c.wrong) != 1 || !strings.Contains(c.wrong.Error(), "the file is longer than 4194304 bytes: is it the right one?") {
		t.Error(c.wrong)
	}
}
