// Command reviews asks an admission webhook about pods at a steady rate, as the API server does: over TLS, one connection, many requests at once. It prints how
// many were asked, how many were answered with yes, and the median and the 99th percentile of the time to an answer in milliseconds.
// Time counts from when a request was due, so that a server that falls behind can't hide it.
package main

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"sort"
	"sync"
	"time"
)

// maxAnswer is the most that is read of an answer, in bytes.
const maxAnswer = 1 << 20

func main() {
	url := flag.String("url", "", "the webhook")
	namespace := flag.String("namespace", "", "a namespace of a tenant")
	rate := flag.Int("rate", 2000, "reviews a second")
	lasts := flag.Duration("for", 10*time.Second, "how long")
	flag.Parse()
	if err := run(*url, *namespace, *rate, *lasts); err != nil {
		fmt.Fprintln(os.Stderr, "reviews: "+err.Error())
		os.Exit(1)
	}
}

func review(namespace string) ([]byte, error) {
	container := map[string]any{
		"name": "web", "image": "freehold.dev/test:dev", "imagePullPolicy": "IfNotPresent",
		"resources":    map[string]any{"requests": map[string]any{"cpu": "10m", "memory": "32Mi"}, "limits": map[string]any{"memory": "64Mi"}},
		"volumeMounts": []any{map[string]any{"name": "token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true}},
	}
	token := map[string]any{"name": "token", "projected": map[string]any{"sources": []any{map[string]any{"serviceAccountToken": map[string]any{"path": "token"}}}}}
	pod := map[string]any{
		"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "p", "namespace": namespace},
		"spec": map[string]any{"containers": []any{container}, "volumes": []any{token}, "schedulerName": "default-scheduler", "securityContext": map[string]any{}},
	}
	request := map[string]any{
		"uid": "705ab4f5", "kind": map[string]any{"version": "v1", "kind": "Pod"}, "resource": map[string]any{"version": "v1", "resource": "pods"},
		"namespace": namespace, "operation": "CREATE", "userInfo": map[string]any{"username": "alice", "groups": []any{"system:authenticated"}}, "object": pod,
	}
	return json.Marshal(map[string]any{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request})
}

func run(url, namespace string, rate int, lasts time.Duration) error {
	body, err := review(namespace)
	if err != nil {
		return err
	}
	// What is measured is the answer; who answers was decided by the address.
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	ask := func() (bool, error) {
		answer, err := client.Post(url, "application/json", bytes.NewReader(body))
		if err != nil {
			return false, err
		}
		defer answer.Body.Close()
		var said struct {
			Response struct {
				Allowed bool `json:"allowed"`
			} `json:"response"`
		}
		err = json.NewDecoder(io.LimitReader(answer.Body, maxAnswer)).Decode(&said)
		return said.Response.Allowed, err
	}
	for range 200 {
		if _, err := ask(); err != nil {
			return err
		}
	}
	count := int(lasts.Seconds() * float64(rate))
	times, yes := make([]time.Duration, count), make([]bool, count)
	var group sync.WaitGroup
	began := time.Now()
	for n := range count {
		due := began.Add(time.Duration(n) * time.Second / time.Duration(rate))
		time.Sleep(time.Until(due))
		group.Add(1)
		go func() {
			defer group.Done()
			allowed, err := ask()
			yes[n] = allowed && err == nil
			times[n] = time.Since(due)
		}()
	}
	group.Wait()
	took := time.Since(began)
	allowed := 0
	for _, one := range yes {
		if one {
			allowed++
		}
	}
	sort.Slice(times, func(a, b int) bool { return times[a] < times[b] })
	at := func(share float64) float64 { return times[int(share*float64(count-1))].Seconds() * 1e3 }
	fmt.Printf("%.0f %d %d %.2f %.2f\n", float64(count)/took.Seconds(), count, allowed, at(0.5), at(0.99))
	return nil
}
