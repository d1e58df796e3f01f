package main

import (
	"fmt"
	"path/filepath"
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

// oldClientArgs is the command line of a tool with the client it came with.
func (j *java) oldClientArgs(v jvm, class string, args ...string) []string {
	v.Config = j.logging()
	return j.brokerArgs(v, class, args...)
}

// clientArgs is the command line of a program of ours, or of a tool of the
// broker's version that runs on the newer client.
func (j *java) clientArgs(v jvm, class string, args ...string) []string {
	v.Config = j.logging()
	classPath := fmt.Sprintf("%s:%s:%s", j.software.classes, filepath.Join(j.software.clients, "*"), filepath.Join(j.software.kafka, "*"))
	line := append(v.args(), "-cp", classPath, class)
	return append(line, args...)
}

// logging is the log4j2 configuration of clients and tools.
func (j *java) logging() string {
	return filepath.Join(j.software.root, "interop", "java", "log4j2.properties")
}
