package route

import (
	"os"
	"path/filepath"
	"time"
)

// replaceFile has the file hold data, or what it held before, at every moment,
// also when the machine loses its power.
func replaceFile(path string, data []byte) (err error) {
	dir, base := filepath.Split(path)
	if dir == "" {
		dir = "."
	}
	removeLeftovers(dir, base)
	tmp, err := os.CreateTemp(dir, temporaryName(base))
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			tmp.Close()
			os.Remove(tmp.Name())
		}
	}()
	if _, err := tmp.Write(data); err != nil {
		return err
	}
	if err := tmp.Chmod(0o644); err != nil {
		return err
	}
	if err := tmp.Sync(); err != nil {
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

func temporaryName(base string) string { return "." + base + ".new-*" }

// removeLeftovers removes what was being written when the program was killed.
// Files of the last minute may be another program's that keeps the same file.
func removeLeftovers(dir, base string) {
	leftovers, _ := filepath.Glob(filepath.Join(dir, temporaryName(base)))
	for _, name := range leftovers {
		if info, err := os.Stat(name); err == nil && time.Since(info.ModTime()) > time.Minute {
			os.Remove(name)
		}
	}
}

// syncDir makes a rename last. Where directories cannot be synced it lasts all
// the same, or cannot be made to.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	d.Sync()
	return nil
}
