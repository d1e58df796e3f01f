package certs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// install writes all files or none. Each is written in full under a temporary
// name beside its place; only then are they put there, and one that cannot be
// takes back those before it.
func install(dir string, files []File, force bool) error {
	if err := checkPlaces(dir, files, force); err != nil {
		return err
	}
	staged, err := stage(dir, files)
	defer func() {
		for _, name := range staged {
			os.Remove(name) // in vain for those that were moved to their places
		}
	}()
	if err != nil {
		return err
	}
	return commit(dir, files, staged, force)
}

// checkPlaces finds what stands in the way, all of it at once.
func checkPlaces(dir string, files []File, force bool) error {
	var existing []string
	for _, f := range files {
		info, err := os.Lstat(filepath.Join(dir, f.Name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return err
		case info.IsDir():
			return fmt.Errorf("%s is a directory: move it away first", filepath.Join(dir, f.Name))
		default:
			existing = append(existing, f.Name)
		}
	}
	if len(existing) > 0 && !force {
		return fmt.Errorf("%w: %s", fs.ErrExist, strings.Join(existing, ", "))
	}
	return nil
}

// stage writes each file under a temporary name and returns the names, also
// when it fails half-way.
func stage(dir string, files []File) (staged []string, err error) {
	for _, f := range files {
		name, err := stageOne(dir, f)
		if err != nil {
			return staged, fmt.Errorf("writing %s: %w", f.Name, err)
		}
		staged = append(staged, name)
	}
	return staged, nil
}

func stageOne(dir string, f File) (name string, err error) {
	if dir == "" {
		dir = "." // CreateTemp takes "" for the system's temporary folder
	}
	// It makes the file readable for its owner alone, so that a key never is
	// for anyone else.
	tmp, err := os.CreateTemp(dir, "."+f.Name+".new-*")
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			tmp.Close()
			os.Remove(tmp.Name())
		}
	}()
	if !f.Secret {
		if err := tmp.Chmod(0o644); err != nil {
			return "", err
		}
	}
	if _, err := tmp.Write(f.content); err != nil {
		return "", err
	}
	if err := tmp.Sync(); err != nil {
		return "", err
	}
	return tmp.Name(), tmp.Close()
}

// commit puts the staged files in their places. What it replaces is kept until
// all are there, and put back when one cannot be.
func commit(dir string, files []File, staged []string, force bool) (err error) {
	var replaced []string
	var undo []func() error
	defer func() {
		if err == nil {
			for _, old := range replaced {
				os.Remove(old)
			}
			return
		}
		for _, step := range slices.Backward(undo) {
			err = errors.Join(err, step())
		}
	}()
	for i, f := range files {
		place := filepath.Join(dir, f.Name)
		if force {
			old, err := setAside(place)
			if err != nil {
				return fmt.Errorf("replacing %s: %w", f.Name, err)
			}
			if old != "" {
				replaced = append(replaced, old)
				undo = append(undo, func() error { return os.Rename(old, place) })
			}
		}
		if err := put(staged[i], place); err != nil {
			return fmt.Errorf("writing %s: %w", f.Name, err)
		}
		undo = append(undo, func() error { return os.Remove(place) })
	}
	return nil
}

// put moves a staged file to its place, which must be free. A link, unlike a
// rename, never replaces what someone else has put there in the meantime; where
// the file system knows no links a rename has to do.
func put(staged, place string) error {
	err := os.Link(staged, place)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return err
	}
	return os.Rename(staged, place)
}

// setAside moves a file to a temporary name beside it and returns that; "" when
// there is no file.
func setAside(place string) (string, error) {
	if _, err := os.Lstat(place); errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	reserved, err := os.CreateTemp(filepath.Dir(place), "."+filepath.Base(place)+".old-*")
	if err != nil {
		return "", err
	}
	reserved.Close()
	if err := os.Rename(place, reserved.Name()); err != nil {
		os.Remove(reserved.Name())
		return "", err
	}
	return reserved.Name(), nil
}
