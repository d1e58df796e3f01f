// Program build makes what is released: archives, .deb, .rpm, what an image is
// built from, an SBOM for each platform, and the checksums of all of them.
//
// The same commit gives the same bytes, in whatever folder it is built: paths are
// trimmed, and all dates are the commit's (SOURCE_DATE_EPOCH, when that is set).
//
//	go run ./build --out ../dist [--version 1.2.3] [--platforms linux/amd64,…] [--release]
package main

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	name       = "kafka-sni-proxy"
	maintainer = "kafka-sni-proxy maintainers <maintainers@kafka-sni-proxy.invalid>"
)

// platforms are those for which releases are made.
var platforms = []string{
	"linux/amd64", "linux/arm64", "darwin/amd64", "darwin/arm64",
	"windows/amd64", "windows/arm64", "freebsd/amd64", "freebsd/arm64",
}

// release is what all artifacts of one run have in common.
type release struct {
	root, out string
	version   string // as the program says it
	packaged  string // as dpkg and rpm order it
	date      time.Time
	shared    []file // beside the program, on all platforms
}

// file is one that goes into archives, and perhaps elsewhere into packages.
type file struct {
	source    string
	inArchive string
	installed string // "" means in archives only
	mode      fs.FileMode
}

func main() {
	log.SetFlags(0)
	var r release
	var list string
	var strict bool
	flag.StringVar(&r.root, "root", "..", "the project's `folder`")
	flag.StringVar(&r.out, "out", "../dist", "the `folder` to write; what is in it goes away")
	flag.StringVar(&r.version, "version", "", "the `version` (default: what git describe says)")
	flag.StringVar(&list, "platforms", strings.Join(platforms, ","), "the `platforms`, comma-separated")
	flag.BoolVar(&strict, "release", false, "insist on what only a release must have: man pages")
	flag.Parse()
	if err := r.build(strings.Split(list, ","), strict); err != nil {
		log.Fatal("build: ", err)
	}
}

func (r *release) build(list []string, strict bool) error {
	if err := r.identify(); err != nil {
		return err
	}
	if err := r.empty(); err != nil {
		return err
	}
	work, err := os.MkdirTemp("", name+"-build-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	host := runtime.GOOS + "/" + runtime.GOARCH
	native, err := r.compile(work, host)
	if err != nil {
		return err
	}
	if err := r.gather(work, native, strict); err != nil {
		return err
	}
	for _, platform := range list {
		binary, err := r.compile(work, platform)
		if err != nil {
			return err
		}
		if err := r.artifacts(binary, platform); err != nil {
			return fmt.Errorf("%s: %w", platform, err)
		}
	}
	return r.checksums()
}

// empty makes out an empty folder. Only one that this program has written, or an
// empty one, is emptied.
func (r *release) empty() error {
	entries, err := os.ReadDir(r.out)
	if err == nil && len(entries) > 0 {
		if _, err := os.Stat(filepath.Join(r.out, checksumsFile)); err != nil {
			return fmt.Errorf("%s is not empty, and not of this program's making: no %s in it", r.out, checksumsFile)
		}
		if err := os.RemoveAll(r.out); err != nil {
			return err
		}
	}
	return os.MkdirAll(r.out, 0o755)
}

// identify finds version and date.
func (r *release) identify() (err error) {
	git := func(args ...string) (string, error) {
		out, err := exec.Command("git", append([]string{"-C", r.root}, args...)...).Output()
		return strings.TrimSpace(string(out)), err
	}
	if r.version == "" {
		if r.version, err = git("describe", "--tags", "--always", "--dirty"); err != nil {
			return errors.New("no version: say it with --version, where there is no git")
		}
	}
	epoch := os.Getenv("SOURCE_DATE_EPOCH")
	if epoch == "" {
		if epoch, err = git("log", "-1", "--format=%ct"); err != nil {
			return errors.New("no date: set SOURCE_DATE_EPOCH, where there is no git")
		}
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	r.date = time.Unix(seconds, 0).UTC()
	r.packaged = packageVersion(r.version, r.date)
	return nil
}

var afterTag = regexp.MustCompile(`-([0-9]+)-(g[0-9a-f]+)`)

// packageVersion turns what git describe says into what dpkg and rpm order
// rightly: candidates before the version, commits after it; without a tag, by date.
func packageVersion(version string, date time.Time) string {
	v := strings.TrimPrefix(version, "v")
	if !regexp.MustCompile(`^[0-9]+\.[0-9]+`).MatchString(v) {
		v = "0.0.0~" + date.Format("20060102150405") + "." + v
	}
	v = afterTag.ReplaceAllString(v, "+$1.$2")
	v = strings.ReplaceAll(v, "-dirty", "+dirty")
	return strings.ReplaceAll(v, "-", "~")
}

// compile builds the program for a platform, as "make build" does.
func (r *release) compile(work, platform string) (string, error) {
	goos, arch, ok := strings.Cut(platform, "/")
	if !ok {
		return "", fmt.Errorf("%q is no platform: it is like linux/amd64", platform)
	}
	binary := filepath.Join(work, goos+"-"+arch, name)
	if goos == "windows" {
		binary += ".exe"
	}
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false",
		"-ldflags", "-X main.version="+r.version, "-o", binary, "./cmd/"+name)
	build.Dir = r.root
	// GOAMD64 and the like would make another program.
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+goos, "GOARCH="+arch,
		"GOFLAGS=", "GOAMD64=v1", "GOARM64=v8.0", "GOEXPERIMENT=")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building for %s: %w\n%s", platform, err, out)
	}
	return binary, nil
}

// gather collects what goes with the program everywhere.
func (r *release) gather(work, native string, strict bool) error {
	const doc = "/usr/share/doc/" + name
	r.shared = []file{
		{filepath.Join(r.root, "LICENSE"), "LICENSE", "", 0o644},
		{filepath.Join(r.root, "packaging/copyright"), "", doc + "/copyright", 0o644},
		{filepath.Join(r.root, "README.md"), "README.md", "", 0o644},
		{filepath.Join(r.root, "CHANGELOG.md"), "CHANGELOG.md", "", 0o644},
		{filepath.Join(r.root, "packaging", name+".yaml"), name + ".yaml", doc + "/examples/" + name + ".yaml", 0o644},
	}
	for _, unit := range []string{name + ".service", name + ".socket"} {
		r.shared = append(r.shared, file{filepath.Join(r.root, "contrib/systemd", unit), "systemd/" + unit, "/lib/systemd/system/" + unit, 0o644})
	}
	for _, example := range []string{"prometheus/rules.yaml", "prometheus/alerts.yaml", "grafana/" + name + ".json"} {
		r.shared = append(r.shared, file{filepath.Join(r.root, "contrib", example), example, doc + "/examples/" + example, 0o644})
	}
	for shell, installed := range map[string]string{
		"bash": "/usr/share/bash-completion/completions/" + name,
		"zsh":  "/usr/share/zsh/vendor-completions/_" + name,
		"fish": "/usr/share/fish/vendor_completions.d/" + name + ".fish",
	} {
		text, err := exec.Command(native, "completion", shell).Output()
		if err != nil {
			return fmt.Errorf("completion for %s: %w", shell, err)
		}
		source := filepath.Join(work, name+"."+shell)
		if err := os.WriteFile(source, text, 0o644); err != nil {
			return err
		}
		r.shared = append(r.shared, file{source, "completions/" + name + "." + shell, installed, 0o644})
	}
	pages, err := filepath.Glob(filepath.Join(r.root, "docs/man/*.1"))
	if err != nil {
		return err
	}
	if strict && len(pages) == 0 {
		return errors.New("there is no man page in docs/man")
	}
	for _, page := range pages {
		compressed := filepath.Join(work, filepath.Base(page)+".gz")
		if err := compress(page, compressed); err != nil {
			return err
		}
		r.shared = append(r.shared,
			file{page, "man/" + filepath.Base(page), "", 0o644},
			file{compressed, "", "/usr/share/man/man1/" + filepath.Base(compressed), 0o644})
	}
	news := filepath.Join(work, "NEWS.gz")
	if err := compress(filepath.Join(r.root, "CHANGELOG.md"), news); err != nil {
		return err
	}
	entry := fmt.Sprintf("%s (%s) stable; urgency=medium\n\n  * See NEWS.gz.\n\n -- %s  %s\n",
		name, r.packaged, maintainer, r.date.Format(time.RFC1123Z))
	plain, changes := filepath.Join(work, "changelog"), filepath.Join(work, "changelog.gz")
	if err := errors.Join(os.WriteFile(plain, []byte(entry), 0o644), compress(plain, changes)); err != nil {
		return err
	}
	r.shared = append(r.shared, file{news, "", doc + "/NEWS.gz", 0o644}, file{changes, "", doc + "/changelog.Debian.gz", 0o644})
	slices.SortFunc(r.shared, func(a, b file) int {
		return cmp.Or(cmp.Compare(a.inArchive, b.inArchive), cmp.Compare(a.installed, b.installed))
	})
	return nil
}

// artifacts writes all that there is for one platform.
func (r *release) artifacts(binary, platform string) error {
	goos, arch, _ := strings.Cut(platform, "/")
	base := filepath.Join(r.out, strings.Join([]string{name, r.packaged, goos, arch}, "_"))
	files := append([]file{{binary, filepath.Base(binary), "/usr/bin/" + name, 0o755}}, r.shared...)
	var errs []error
	if goos == "windows" {
		errs = append(errs, r.zip(base+".zip", files))
	} else {
		errs = append(errs, r.tarball(base+".tar.gz", files))
	}
	errs = append(errs, r.sbom(base+".cdx.json", binary))
	if goos == "linux" {
		errs = append(errs,
			r.systemPackage("deb", base+".deb", arch, files),
			r.systemPackage("rpm", base+".rpm", arch, files),
			r.imageContext(filepath.Join(r.out, "image", arch), binary))
	}
	return errors.Join(errs...)
}

const checksumsFile = "SHA256SUMS"

// checksums are in the format of sha256sum -c.
func (r *release) checksums() error {
	var lines strings.Builder
	err := filepath.WalkDir(r.out, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(r.out, path)
		fmt.Fprintf(&lines, "%x  %s\n", sha256.Sum256(content), filepath.ToSlash(relative))
		return err
	})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(r.out, checksumsFile), []byte(lines.String()), 0o644)
}
