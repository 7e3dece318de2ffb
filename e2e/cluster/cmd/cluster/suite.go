package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Images of upstream's suite, made here: no registry is asked. What the suite asks of each stands in upstream's test/images.
const suiteRegistry = "registry.k8s.io/e2e-test-images/"

// suiteImages writes the archives of the images that the node's specs use into a folder, under the names that the suite itself lists.
func suiteImages(dir string) error {
	folders := map[string]string{}
	for _, name := range []string{"agnhost", "e2e"} {
		t, err := toolNamed(name)
		if err != nil {
			return err
		}
		if folders[name], err = t.ensure(); err != nil {
			return err
		}
	}
	listed, err := exec.Command(filepath.Join(folders["e2e"], "e2e.test"), "--list-images").Output()
	if err != nil {
		return fmt.Errorf("asking the suite for its images: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	busybox, err := busyboxLayer("/bin/busybox")
	if err != nil {
		return fmt.Errorf("busybox: %w (install busybox-static)", err)
	}
	nnp, err := os.ReadFile(filepath.Join(folders["agnhost"], "nonewprivs"))
	if err != nil {
		return err
	}
	agnhost, err := agnhostLayer(busybox, folders["agnhost"])
	if err != nil {
		return err
	}
	path := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	images := map[string]struct {
		config map[string]any
		layer  []entry
	}{
		"busybox":           {map[string]any{"Cmd": []string{"sh"}, "Env": path}, busybox},
		"agnhost":           {map[string]any{"Entrypoint": []string{"/agnhost"}, "Cmd": []string{"pause"}, "Env": path}, agnhost},
		"glibc-dns-testing": {map[string]any{"Cmd": []string{"sh"}, "Env": path}, agnhost},
		"nonroot":           {map[string]any{"Cmd": []string{"sh"}, "Env": path, "User": "1234"}, busybox},
		"nonewprivs": {map[string]any{"Cmd": []string{"nnp"}, "Env": path}, append(slices.Clone(busybox), entry{name: "usr/", mode: 0o755}, entry{name: "usr/local/", mode: 0o755},
			entry{name: "usr/local/bin/", mode: 0o755}, entry{name: "usr/local/bin/nnp", mode: 0o6755, data: nnp})},
	}
	made := 0
	for _, reference := range strings.Fields(string(listed)) {
		name, _, _ := strings.Cut(strings.TrimPrefix(reference, suiteRegistry), ":")
		image, ok := images[name]
		if !ok || !strings.HasPrefix(reference, suiteRegistry) {
			continue
		}
		file := filepath.Join(dir, strings.ReplaceAll(strings.TrimPrefix(reference, suiteRegistry), ":", "-")+".tar")
		if err := writeArchive(file, reference, image.config, image.layer); err != nil {
			return fmt.Errorf("image %s: %w", reference, err)
		}
		fmt.Println(file)
		made++
	}
	if made < len(images) {
		return fmt.Errorf("the suite lists only %d of the %d images that are made for it", made, len(images))
	}
	return nil
}

// agnhostLayer is busybox, agnhost, and what specs call in its container: bash, curl, getent and OpenBSD's nc with their libraries.
func agnhostLayer(busybox []entry, built string) ([]entry, error) {
	program, err := os.ReadFile(filepath.Join(built, "agnhost"))
	if err != nil {
		return nil, err
	}
	upstream, err := moduleDir("tools/conformance", "k8s.io/kubernetes")
	if err != nil {
		return nil, err
	}
	layer := []entry{{name: "agnhost", mode: 0o755, data: program}, {name: "agnhost-2", link: "agnhost", mode: 0o777}, {name: "uploads/", mode: 0o755}}
	for _, e := range busybox {
		switch e.name {
		case "etc/passwd":
			e.data = append(slices.Clone(e.data), "user-defined-in-image:x:1000:1000::/home/user-defined-in-image:/bin/sh\n"...)
		case "etc/group":
			e.data = append(slices.Clone(e.data), "user-defined-in-image:x:1000:\ngroup-defined-in-image:x:50000:user-defined-in-image\n"...)
		}
		layer = append(layer, e)
	}
	for _, name := range []string{"localhost.crt", "localhost.key"} {
		text, err := os.ReadFile(filepath.Join(upstream, "test/images/agnhost/porter", name))
		if err != nil {
			return nil, err
		}
		layer = append(layer, entry{name: name, mode: 0o644, data: text})
	}
	if layer, err = withPrograms(layer, "bash", "curl", "getent", "nc.openbsd"); err != nil {
		return nil, err
	}
	// The shell of Debian's busybox takes its own nc before any on PATH.
	return relinked(relinked(layer, "nc", "nc.openbsd"), "sh", "bash"), nil
}

// relinked lets a name of the layer lead to another program than busybox.
func relinked(layer []entry, name, program string) []entry {
	layer = slices.DeleteFunc(layer, func(e entry) bool { return e.name == "bin/"+name })
	return append(layer, entry{name: "bin/" + name, link: program, mode: 0o777})
}

// withPrograms adds programs of this machine with the libraries that their loader finds.
func withPrograms(layer []entry, names ...string) ([]entry, error) {
	have := map[string]bool{}
	for _, e := range layer {
		have[e.name] = true
	}
	add := func(target, source string) error {
		for i := range len(target) {
			if target[i] == '/' && !have[target[:i+1]] {
				have[target[:i+1]] = true
				layer = append(layer, entry{name: target[:i+1], mode: 0o755})
			}
		}
		if have[target] {
			return nil
		}
		have[target] = true
		data, err := os.ReadFile(source)
		layer = append(layer, entry{name: target, mode: 0o755, data: data})
		return err
	}
	for _, name := range names {
		source, err := exec.LookPath(name)
		if err != nil {
			return nil, fmt.Errorf("%w (install the Debian packages bash, curl, libc-bin and netcat-openbsd)", err)
		}
		target := "bin/" + name
		layer = slices.DeleteFunc(layer, func(e entry) bool { return e.name == target })
		delete(have, target)
		libraries, err := exec.Command("ldd", source).Output()
		if err != nil {
			return nil, fmt.Errorf("ldd %s: %w", source, err)
		}
		if err := add(target, source); err != nil {
			return nil, err
		}
		for _, word := range strings.Fields(string(libraries)) {
			if strings.HasPrefix(word, "/") {
				if err := add(strings.TrimPrefix(word, "/"), word); err != nil {
					return nil, err
				}
			}
		}
	}
	return layer, nil
}

// moduleDir is where Go keeps the source of a module that one of ours requires.
func moduleDir(module, path string) (string, error) {
	source, err := sourceDir()
	if err != nil {
		return "", err
	}
	command := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", path)
	command.Dir, command.Env = filepath.Join(source, module), append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=readonly")
	text, err := command.Output()
	dir := strings.TrimSpace(string(text))
	if err == nil && dir == "" {
		err = errors.New("its source is not in Go's module cache")
	}
	if err != nil {
		return "", fmt.Errorf("finding the source of %s: %w", path, err)
	}
	return dir, nil
}
