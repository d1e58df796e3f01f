package main

import (
	"fmt"
	"path/filepath"
	"strings"
)

// java knows how Java programs are started: brokers with the jars of the
// broker's version, clients and tools with the newer client in front of them.
type java struct{ software *software }

// jvm are the settings of one Java virtual machine.
type jvm struct {
	HeapMB int
	Config string // log4j2 configuration
	Log    string // where that configuration writes to, if it asks
	Level  string // "": INFO
	Hosts  string // the only names the program can resolve; "": the machine's own
	Short  bool   // starts fast rather than runs fast
}

func (v jvm) args() []string {
	args := []string{"java", fmt.Sprintf("-Xmx%dm", v.HeapMB), "-Dlog4j2.configurationFile=" + v.Config}
	if v.Short {
		args = append(args, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
	}
	if v.Hosts != "" {
		args = append(args, "-Djdk.net.hosts.file="+v.Hosts)
	}
	if v.Log != "" {
		args = append(args, "-Dinterop.log="+v.Log)
	}
	if v.Level != "" {
		args = append(args, "-Dinterop.level="+v.Level)
	}
	return args
}

// brokerArgs is the command line of a program of the broker's version.
func (j *java) brokerArgs(v jvm, class string, args ...string) []string {
	line := append(v.args(), "-cp", filepath.Join(j.software.kafka, "*"), class)
	return append(line, args...)
}

// brokerClientArgs is the command line of a tool on the client it came with.
func (j *java) brokerClientArgs(v jvm, class string, args ...string) []string {
	v.Config = j.logging()
	return j.brokerArgs(v, class, args...)
}

// clientArgs is the command line of a program of ours, or of a tool of the
// broker's version that runs on the newer client.
func (j *java) clientArgs(v jvm, class string, args ...string) []string {
	return j.onClient(v, []string{filepath.Join(j.software.clients, "*"), filepath.Join(j.software.kafka, "*")}, class, args)
}

// oldClientArgs is the command line of a program of ours on the old client, and
// on nothing of Kafka's that is newer.
func (j *java) oldClientArgs(v jvm, class string, args ...string) []string {
	jars := []string{filepath.Join(j.software.oldClient, "*")}
	for _, pattern := range []string{"log4j-*.jar", "slf4j-*.jar"} {
		logging, err := filepath.Glob(filepath.Join(j.software.kafka, pattern))
		if err != nil {
			panic(err) // the pattern is malformed
		}
		jars = append(jars, logging...)
	}
	return j.onClient(v, jars, class, args)
}

func (j *java) onClient(v jvm, jars []string, class string, args []string) []string {
	v.Config = j.logging()
	line := append(v.args(), "-cp", strings.Join(append([]string{j.software.classes}, jars...), ":"), class)
	return append(line, args...)
}

// logging is the log4j2 configuration of clients and tools.
func (j *java) logging() string {
	return filepath.Join(j.software.root, "interop", "java", "log4j2.properties")
}
