// Command layers writes an image archive in the format of `docker save`, a folder a layer: for tests that need an image of many
// layers and real programs. usage: layers NAME ARCHIVE FOLDER…
package main

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

func main() {
	if len(os.Args) < 4 {
		fmt.Fprintln(os.Stderr, "usage: layers NAME ARCHIVE FOLDER...")
		os.Exit(2)
	}
	if err := write(os.Args[1], os.Args[2], os.Args[3:]); err != nil {
		fmt.Fprintln(os.Stderr, "layers: "+err.Error())
		os.Exit(1)
	}
}

func write(name, target string, folders []string) error {
	work, err := os.MkdirTemp(filepath.Dir(target), "layers")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	var digests, files []string
	for number, folder := range folders {
		file := filepath.Join(work, fmt.Sprintf("%d.tar", number))
		digest, err := layer(folder, file)
		if err != nil {
			return fmt.Errorf("layer of %s: %w", folder, err)
		}
		digests, files = append(digests, "sha256:"+digest), append(files, filepath.Base(file))
	}
	config, err := json.Marshal(map[string]any{"architecture": "amd64", "os": "linux", "created": "1970-01-01T00:00:00Z",
		"config": map[string]any{"Cmd": []string{"sh"}, "Env": []string{"PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": digests}})
	if err != nil {
		return err
	}
	manifest, err := json.Marshal([]map[string]any{{"Config": "config.json", "RepoTags": []string{name}, "Layers": files}})
	if err != nil {
		return err
	}
	out, err := os.Create(target)
	if err != nil {
		return err
	}
	defer out.Close()
	archive := tar.NewWriter(out)
	for name, data := range map[string][]byte{"config.json": config, "manifest.json": manifest} {
		if err := archive.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(data))}); err != nil {
			return err
		}
		if _, err := archive.Write(data); err != nil {
			return err
		}
	}
	for _, name := range files {
		if err := add(archive, filepath.Join(work, name), name); err != nil {
			return err
		}
	}
	return archive.Close()
}

func layer(folder, target string) (string, error) {
	out, err := os.Create(target)
	if err != nil {
		return "", err
	}
	defer out.Close()
	sum := sha256.New()
	archive := tar.NewWriter(io.MultiWriter(out, sum))
	err = filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == folder {
			return err
		}
		name, err := filepath.Rel(folder, path)
		if err != nil {
			return err
		}
		return add(archive, path, name)
	})
	if err != nil {
		return "", err
	}
	if err := archive.Close(); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

func add(archive *tar.Writer, path, name string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	link := ""
	if info.Mode()&os.ModeSymlink != 0 {
		if link, err = os.Readlink(path); err != nil {
			return err
		}
	}
	header, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return err
	}
	header.Name = name
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		header.Uid, header.Gid = int(stat.Uid), int(stat.Gid)
	}
	header.Uname, header.Gname = "", ""
	if err := archive.WriteHeader(header); err != nil || !info.Mode().IsRegular() {
		return err
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = io.Copy(archive, file)
	return err
}
