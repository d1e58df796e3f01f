package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
)

// machine is what the figures were measured on. It says what matters for them,
// and not whose machine it is.
type machine struct {
	CPU      string `json:"cpu"`
	Cores    int    `json:"cores"`
	Memory   string `json:"memory"`
	Kernel   string `json:"kernel"`
	Go       string `json:"go"`
	Revision string `json:"revision"`
	// Load is how many processes were running or waiting to, on average, in
	// the minute before: the figures are worth little when others were busy.
	Load string `json:"load_before"`
}

func describeMachine() machine {
	m := machine{CPU: runtime.GOARCH, Cores: runtime.NumCPU(), Go: runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH}
	if model := lineOf("/proc/cpuinfo", "model name"); model != "" {
		m.CPU = model
	}
	if hypervisor := strings.Contains(" "+lineOf("/proc/cpuinfo", "flags")+" ", " hypervisor "); hypervisor {
		m.CPU += " (virtual machine)"
	}
	var kb int
	if _, err := fmt.Sscanf(lineOf("/proc/meminfo", "MemTotal"), "%d kB", &kb); err == nil {
		m.Memory = fmt.Sprintf("%.0f GiB", float64(kb)/(1<<20))
	}
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		// What follows the version is the distributor's or the host's name for it.
		version, _, _ := strings.Cut(strings.TrimSpace(string(release)), "-")
		m.Kernel = "Linux " + version
	}
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		m.Load, _, _ = strings.Cut(string(load), " ")
	}
	m.Revision = "unknown"
	if revision, err := exec.Command("git", "describe", "--always", "--dirty").Output(); err == nil {
		m.Revision = strings.TrimSpace(string(revision))
	}
	return m
}

// lineOf returns what follows a name and a colon in a file of /proc.
func lineOf(file, name string) string {
	content, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(content)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func (m machine) String() string {
	return fmt.Sprintf("%s, %s, %s; %s; %s; revision %s; load before: %s", m.CPU, count(m.Cores, "core"), m.Memory, m.Kernel, m.Go, m.Revision, m.Load)
}
