package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// How long the certificates of a test cluster live; its state is not meant to live longer.
const certificateLife = 365 * 24 * time.Hour

type identity struct {
	file, ca, user string
	groups, names  []string
	addresses      []net.IP
	server         bool
}

var identities = []identity{
	{file: "apiserver", ca: "ca", user: "kube-apiserver", server: true,
		names:     []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "localhost"},
		addresses: []net.IP{net.IPv4(10, 96, 0, 1), net.ParseIP(nodeAddress), net.IPv4(127, 0, 0, 1)}},
	{file: "apiserver-kubelet-client", ca: "ca", user: "kube-apiserver-kubelet-client", groups: []string{"system:masters"}},
	{file: "front-proxy-client", ca: "front-proxy-ca", user: "front-proxy-client"},
	{file: "kubelet-server", ca: "ca", user: nodeName, server: true, names: []string{nodeName}, addresses: []net.IP{net.ParseIP(nodeAddress)}},
	{file: "kubelet", ca: "ca", user: "system:node:" + nodeName, groups: []string{"system:nodes"}},
	{file: "admin", ca: "ca", user: "freehold-test-admin", groups: []string{"system:masters"}},
	{file: "controller-manager", ca: "ca", user: "system:kube-controller-manager"},
	{file: "scheduler", ca: "ca", user: "system:kube-scheduler"},
	{file: "proxy", ca: "ca", user: "system:kube-proxy"},
}

// ensurePKI writes the cluster's keys and certificates once; a restarted cluster keeps them, as its clients do.
func ensurePKI(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, "complete")); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, ca := range []string{"ca", "front-proxy-ca"} {
		if err := writeAuthority(dir, ca); err != nil {
			return fmt.Errorf("certificate authority %s: %w", ca, err)
		}
	}
	if err := writeServiceAccountKey(dir); err != nil {
		return fmt.Errorf("service account key: %w", err)
	}
	for _, id := range identities {
		certificate, key, err := issue(dir, id)
		if err != nil {
			return fmt.Errorf("certificate %s: %w", id.file, err)
		}
		if err := writeFiles(dir, map[string][]byte{id.file + ".crt": certificate, id.file + ".key": key}); err != nil {
			return err
		}
		if id.server || id.ca != "ca" {
			continue
		}
		config, err := kubeconfig(dir, "https://"+nodeAddress+":6443", id.user, certificate, key)
		if err != nil {
			return err
		}
		if err := writeFiles(dir, map[string][]byte{id.file + ".kubeconfig": config}); err != nil {
			return err
		}
	}
	return writeFiles(dir, map[string][]byte{"complete": nil})
}

func writeFiles(dir string, files map[string][]byte) error {
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func template(subject pkix.Name) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	return &x509.Certificate{SerialNumber: serial, Subject: subject, NotBefore: now.Add(-5 * time.Minute), NotAfter: now.Add(certificateLife),
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true}, nil
}

func newKey() (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	return key, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), err
}

func writeAuthority(dir, name string) error {
	key, keyText, err := newKey()
	if err != nil {
		return err
	}
	authority, err := template(pkix.Name{CommonName: name})
	if err != nil {
		return err
	}
	authority.IsCA, authority.KeyUsage = true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign|x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, authority, authority, key.Public(), key)
	if err != nil {
		return err
	}
	return writeFiles(dir, map[string][]byte{name + ".key": keyText, name + ".crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})})
}

func writeServiceAccountKey(dir string) error {
	key, text, err := newKey()
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	return writeFiles(dir, map[string][]byte{"sa.key": text, "sa.pub": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})})
}

func readAuthority(dir, name string) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	var blocks [2]*pem.Block
	for i, suffix := range []string{".crt", ".key"} {
		text, err := os.ReadFile(filepath.Join(dir, name+suffix))
		if err != nil {
			return nil, nil, err
		}
		if blocks[i], _ = pem.Decode(text); blocks[i] == nil {
			return nil, nil, fmt.Errorf("%s holds no PEM", name+suffix)
		}
	}
	certificate, err := x509.ParseCertificate(blocks[0].Bytes)
	if err != nil {
		return nil, nil, err
	}
	key, err := x509.ParseECPrivateKey(blocks[1].Bytes)
	return certificate, key, err
}

func issue(dir string, id identity) (certificate, key []byte, err error) {
	authority, authorityKey, err := readAuthority(dir, id.ca)
	if err != nil {
		return nil, nil, err
	}
	private, keyText, err := newKey()
	if err != nil {
		return nil, nil, err
	}
	leaf, err := template(pkix.Name{CommonName: id.user, Organization: id.groups})
	if err != nil {
		return nil, nil, err
	}
	leaf.DNSNames, leaf.IPAddresses = id.names, id.addresses
	leaf.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if id.server {
		leaf.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, authority, private.Public(), authorityKey)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), keyText, nil
}

// kubeconfig is written as JSON, which is YAML too; []byte fields become base64, as the format wants them.
func kubeconfig(dir, server, user string, certificate, key []byte) ([]byte, error) {
	ca, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		return nil, err
	}
	type object = map[string]any
	text, err := json.MarshalIndent(object{
		"apiVersion": "v1", "kind": "Config", "current-context": "freehold",
		"clusters": []object{{"name": "freehold", "cluster": object{"server": server, "certificate-authority-data": ca}}},
		"users":    []object{{"name": user, "user": object{"client-certificate-data": certificate, "client-key-data": key}}},
		"contexts": []object{{"name": "freehold", "context": object{"cluster": "freehold", "user": user}}},
	}, "", "  ")
	return append(text, '\n'), err
}
