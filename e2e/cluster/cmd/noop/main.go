// Command noop is an admission webhook that allows everything and changes nothing: what any webhook costs, beside which
// ours is measured. It prints its certificate, which is also its CA, and serves on the address it is given.
// As `hang` it takes every request and answers none; as `expired` its certificate is no longer valid: what the floor must hold without.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"time"
)

// maxReview is the most that is read of a request, in bytes; the store takes objects up to 1.5 MiB, and an update carries two.
const maxReview = 3 << 20

func main() {
	how := ""
	if len(os.Args) == 3 {
		how = os.Args[2]
	}
	if len(os.Args) < 2 || len(os.Args) > 3 || (how != "" && how != "hang" && how != "expired") {
		fmt.Fprintln(os.Stderr, "usage: noop ADDRESS:PORT [hang|expired]")
		os.Exit(2)
	}
	if err := serve(os.Args[1], how); err != nil {
		fmt.Fprintln(os.Stderr, "noop: "+err.Error())
		os.Exit(1)
	}
}

func serve(address, how string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	until := time.Now().Add(24 * time.Hour)
	if how == "expired" {
		until = time.Now().Add(-time.Minute)
	}
	form := x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: until.Add(-25 * time.Hour), NotAfter: until,
		IPAddresses: []net.IP{net.ParseIP(host)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	made, err := x509.CreateCertificate(rand.Reader, &form, &form, &key.PublicKey, key)
	if err != nil {
		return err
	}
	listener, err := tls.Listen("tcp", address, &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{made}, PrivateKey: key}}, NextProtos: []string{"h2", "http/1.1"},
	})
	if err != nil {
		return err
	}
	if err := pem.Encode(os.Stdout, &pem.Block{Type: "CERTIFICATE", Bytes: made}); err != nil {
		return err
	}
	answer := allow
	if how == "hang" {
		answer = hang
	}
	return (&http.Server{Handler: http.HandlerFunc(answer), ReadHeaderTimeout: 10 * time.Second}).Serve(listener)
}

// hang ends when the caller has had enough.
func hang(_ http.ResponseWriter, r *http.Request) {
	<-r.Context().Done()
}

func allow(w http.ResponseWriter, r *http.Request) {
	var review struct {
		Request struct {
			UID string `json:"uid"`
		} `json:"request"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxReview)).Decode(&review); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	response := map[string]any{"uid": review.Request.UID, "allowed": true}
	answer := map[string]any{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}
	_ = json.NewEncoder(w).Encode(answer) // the caller has gone; there is nobody to tell
}
