//go:build !unix

package preflight

func maxDescriptors() uint64 { return 0 }
