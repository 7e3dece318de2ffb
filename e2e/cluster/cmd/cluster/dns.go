package main

import (
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
)

// The image under the name that clusters pull it by.
const dnsImage = "registry.k8s.io/coredns/coredns:v1.15.0"

// What runs it, under the names and labels that every cluster has it by, and the address that the kubelet tells pods.
//
//go:embed dns.yaml
var dnsManifests string

// dns writes the archive of the image, and prints the manifests.
func dns(file string) error {
	t, err := toolNamed("dns")
	if err != nil {
		return err
	}
	built, err := t.ensure()
	if err != nil {
		return err
	}
	program, err := os.ReadFile(filepath.Join(built, "coredns"))
	if err != nil {
		return err
	}
	layer := []entry{{name: "coredns", mode: 0o755, data: program}}
	if err := writeArchive(file, dnsImage, map[string]any{"Entrypoint": []string{"/coredns"}, "User": "65532:65532"}, layer); err != nil {
		return fmt.Errorf("image %s: %w", dnsImage, err)
	}
	fmt.Print(dnsManifests)
	return nil
}
