package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"debug/buildinfo"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/deb"
	"github.com/goreleaser/nfpm/v2/files"
	_ "github.com/goreleaser/nfpm/v2/rpm"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// compress writes a file with gzip, without name and date.
func compress(from, to string) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return err
	}
	z.Write(content) // into memory
	z.Close()
	return os.WriteFile(to, out.Bytes(), 0o644)
}

func (r *release) tarball(to string, list []file) error {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	t := tar.NewWriter(z)
	if err := r.each(to, list, func(path string, mode fs.FileMode, content []byte) error {
		err := t.WriteHeader(&tar.Header{Name: path, Mode: int64(mode), Size: int64(len(content)), ModTime: r.date, Format: tar.FormatUSTAR})
		if err == nil {
			_, err = t.Write(content)
		}
		return err
	}); err != nil {
		return err
	}
	if err := t.Close(); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	return os.WriteFile(to, out.Bytes(), 0o644)
}

func (r *release) zip(to string, list []file) error {
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	if err := r.each(to, list, func(path string, mode fs.FileMode, content []byte) error {
		header := &zip.FileHeader{Name: path, Method: zip.Deflate, Modified: r.date}
		header.SetMode(mode)
		w, err := z.CreateHeader(header)
		if err == nil {
			_, err = w.Write(content)
		}
		return err
	}); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	return os.WriteFile(to, out.Bytes(), 0o644)
}

// each gives the files of an archive, in one folder that is named as the archive is.
func (r *release) each(archive string, list []file, write func(string, fs.FileMode, []byte) error) error {
	folder := strings.TrimSuffix(strings.TrimSuffix(filepath.Base(archive), ".zip"), ".tar.gz")
	for _, f := range list {
		if f.inArchive == "" {
			continue
		}
		content, err := os.ReadFile(f.source)
		if err != nil {
			return err
		}
		if err := write(folder+"/"+f.inArchive, f.mode, content); err != nil {
			return err
		}
	}
	return nil
}

// systemPackage writes a .deb or .rpm. The configuration is no file of the package:
// an upgrade never asks about it, and a removal leaves it.
func (r *release) systemPackage(kind, to, arch string, list []file) error {
	scripts := filepath.Join(r.root, "packaging/scripts")
	info := &nfpm.Info{
		Name: name, Arch: arch, Platform: "linux", Version: r.packaged, VersionSchema: "none", Release: "1",
		Section: "net", Priority: "optional", Maintainer: maintainer,
		Description: "proxy for Kafka that routes by TLS server name\n" +
			"Clients connect with TLS to one port; the server name says which broker\n" +
			"they want. Broker addresses in responses are replaced by the proxy's own.",
		License: "Apache-2.0", MTime: r.date,
		Overridables: nfpm.Overridables{
			Umask: 0o022,
			Scripts: nfpm.Scripts{
				PostInstall: filepath.Join(scripts, "postinst"),
				PreRemove:   filepath.Join(scripts, "prerm"),
				PostRemove:  filepath.Join(scripts, "postrm"),
			},
			Contents: files.Contents{{Destination: "/etc/" + name, Type: files.TypeDir,
				FileInfo: &files.ContentFileInfo{Mode: 0o750, MTime: r.date}}},
		},
	}
	if kind == "deb" {
		info.Depends = []string{"passwd"} // useradd
		info.Recommends = []string{"ca-certificates"}
	} else {
		info.Depends = []string{"shadow-utils"}
		info.Recommends = []string{"ca-certificates"}
		info.RPM.BuildHost = "localhost"
		info.RPM.Summary = "proxy for Kafka that routes by TLS server name"
	}
	for _, f := range list {
		if f.installed == "" {
			continue
		}
		installed := f.installed
		if kind == "rpm" { // where Fedora and RHEL have it
			installed = strings.Replace(installed, "/lib/systemd/", "/usr/lib/systemd/", 1)
			installed = strings.Replace(installed, "zsh/vendor-completions", "zsh/site-functions", 1)
		}
		info.Contents = append(info.Contents, &files.Content{Source: f.source, Destination: installed,
			FileInfo: &files.ContentFileInfo{Mode: f.mode, MTime: r.date, Owner: "root", Group: "root"}})
	}
	info = nfpm.WithDefaults(info)
	if err := nfpm.PrepareForPackager(info, kind); err != nil {
		return err
	}
	packager, err := nfpm.Get(kind)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := packager.Package(info, &out); err != nil {
		return err
	}
	return os.WriteFile(to, out.Bytes(), 0o644)
}

// sbom lists the modules that the program is made of, as the program itself says.
func (r *release) sbom(to, binary string) error {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return err
	}
	main := cdx.Component{BOMRef: info.Path, Type: cdx.ComponentTypeApplication, Name: name, Version: r.version,
		Licenses: &cdx.Licenses{{License: &cdx.License{ID: "Apache-2.0"}}}}
	components := []cdx.Component{{BOMRef: "std", Type: cdx.ComponentTypeLibrary, Name: "std",
		Version: info.GoVersion, PackageURL: "pkg:golang/std@" + strings.TrimPrefix(info.GoVersion, "go")}}
	needs := []string{"std"}
	for _, dep := range info.Deps {
		if dep.Replace != nil {
			dep = dep.Replace
		}
		url := "pkg:golang/" + dep.Path + "@" + dep.Version
		components = append(components, cdx.Component{BOMRef: url, Type: cdx.ComponentTypeLibrary, Name: dep.Path,
			Version: dep.Version, PackageURL: url, Scope: cdx.ScopeRequired,
			Properties: &[]cdx.Property{{Name: "go:sum", Value: dep.Sum}}})
		needs = append(needs, url)
	}
	bom := cdx.NewBOM()
	bom.Metadata = &cdx.Metadata{Timestamp: r.date.Format(time.RFC3339), Component: &main}
	bom.Components = &components
	bom.Dependencies = &[]cdx.Dependency{{Ref: main.BOMRef, Dependencies: &needs}}
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	err = cdx.NewBOMEncoder(out, cdx.BOMFileFormatJSON).SetPretty(true).Encode(bom)
	if closed := out.Close(); err == nil {
		err = closed
	}
	return err
}

// imageContext writes the folder from which an image is built. The authorities are
// Mozilla's, as the version in go.mod has them: not those of the building machine.
func (r *release) imageContext(to, binary string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	var roots bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint != nil {
			continue // trusted for older certificates only, which a file of PEM cannot say
		}
		if err := pem.Encode(&roots, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}); err != nil {
			return err
		}
	}
	if roots.Len() == 0 {
		return fmt.Errorf("no authorities")
	}
	if err := os.WriteFile(filepath.Join(to, "ca-certificates.crt"), roots.Bytes(), 0o644); err != nil {
		return err
	}
	if err := copyFile(filepath.Join(r.root, "packaging/image/Containerfile"), filepath.Join(to, "Containerfile"), 0o644); err != nil {
		return err
	}
	return copyFile(binary, filepath.Join(to, name), 0o755)
}

func copyFile(from, to string, mode fs.FileMode) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if closed := out.Close(); err == nil {
		err = closed
	}
	return err
}
