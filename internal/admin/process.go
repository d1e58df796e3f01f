package admin

import (
	"runtime"

	"github.com/prometheus/procfs"

	"kafka-sni-proxy/internal/api"
)

// readProcess returns what the system says of this process; where it says nothing, that is
// left out.
func readProcess() api.Process {
	is := api.Process{Goroutines: runtime.NumGoroutine()}
	p, err := procfs.Self()
	if err != nil {
		return is
	}
	if stat, err := p.Stat(); err == nil {
		is.ResidentBytes, is.CPUSeconds = int64(stat.ResidentMemory()), stat.CPUTime()
	}
	if n, err := p.FileDescriptorsLen(); err == nil {
		is.OpenDescriptors = n
	}
	if limits, err := p.Limits(); err == nil {
		is.MostDescriptors = int64(limits.OpenFiles)
	}
	return is
}
