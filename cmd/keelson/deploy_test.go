package main

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"keelson/internal/testkit"
)

const deployDir = "../../deploy"

// manifest is what the tests read of a Kubernetes object.
type manifest struct {
	Kind     string
	Metadata struct{ Name string }
	Spec     struct {
		podSpec     `json:",inline"`
		ServiceName string
		Selector    map[string]any
		Template    struct{ Spec podSpec }
		Ports       []struct{ Port int }
	}
}

type podSpec struct {
	Containers []container
	Volumes    []struct{ Name string }
}

type container struct {
	Command []string
	Ports   []struct {
		Name          string
		ContainerPort int
	}
	StartupProbe, LivenessProbe, ReadinessProbe probe
	VolumeMounts                                []struct{ Name string }
}

type probe struct {
	HTTPGet struct {
		Path string
		Port any
	}
}

func manifests(t *testing.T, name string) []manifest {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(deployDir, "kubernetes", name))
	if err != nil {
		t.Fatal(err)
	}
	var list []manifest
	for _, document := range bytes.Split(text, []byte("\n---\n")) {
		var m manifest
		if err := yaml.Unmarshal(document, &m); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if m.Kind == "" || m.Metadata.Name == "" {
			t.Errorf("%s: an object without a kind or name", name)
		}
		list = append(list, m)
	}
	return list
}

// checkSettings has the program check a command line. The certificates that it names are not here.
func checkSettings(t *testing.T, what string, environ []string, flags ...string) string {
	t.Helper()
	cmd := exec.Command(testkit.Binary(t), append([]string{"config", "check"}, flags...)...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, environ...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	_ = cmd.Run()
	if code := cmd.ProcessState.ExitCode(); code != 0 && !strings.Contains(stderr.String(), "no such file or directory") {
		t.Errorf("%s: exit code %d, %s", what, code, &stderr)
	}
	if strings.Contains(stderr.String(), "warning: ") {
		t.Errorf("%s: %s", what, &stderr)
	}
	return stdout.String()
}

// withCertificates is a command line whose certificates are the test's.
func withCertificates(who people, member testkit.Pair, flags []string) []string {
	files := map[string]string{
		"cert-file": who.server.Cert, "key-file": who.server.Key, "trusted-ca-file": who.ca.File,
		"peer-cert-file": member.Cert, "peer-key-file": member.Key, "peer-trusted-ca-file": who.ca.File,
	}
	var out []string
	for _, f := range flags {
		name, _, _ := strings.Cut(strings.TrimPrefix(f, "--"), "=")
		if file, ok := files[name]; ok {
			f = "--" + name + "=" + file
		}
		out = append(out, f)
	}
	return out
}

// TestStaticPod starts a member with the static pod's command line, but for addresses and files, and asks its probes.
func TestStaticPod(t *testing.T) {
	pod := manifests(t, "static-pod.yaml")[0]
	c := pod.Spec.Containers[0]
	if c.Command[0] != "etcd" {
		t.Errorf("the process is called %s, which tools look for", c.Command[0])
	}
	checkSettings(t, "static pod", nil, c.Command[1:]...)

	who := newPeople(t)
	p := testkit.NewProcess(t)
	metrics := testkit.FreeAddress(t)
	replace := strings.NewReplacer(
		"https://127.0.0.1:2379,https://10.0.0.1:2379", "https://"+p.Endpoint, "10.0.0.1:2379", p.Endpoint, "10.0.0.1:2380", p.Peer,
		"127.0.0.1:2381", metrics, "/var/lib/etcd", p.DataDir)
	for _, f := range withCertificates(who, who.server, c.Command[1:]) {
		p.ExtraArgs = append(p.ExtraArgs, replace.Replace(f))
	}
	p.Env = []string{"ETCD_UNSUPPORTED_ARCH=amd64"} // so that only these flags are given
	p.TLS = who.as(t, who.client)
	p.Start()
	if err := put(p.Endpoint, p.TLS); err != nil {
		t.Error(err)
	}
	for _, probe := range []probe{c.StartupProbe, c.LivenessProbe, c.ReadinessProbe} {
		if fmt.Sprint(probe.HTTPGet.Port) != "2381" {
			t.Errorf("a probe asks port %v", probe.HTTPGet.Port)
		}
		if status, text := page(t, "http://"+metrics+probe.HTTPGet.Path); status != http.StatusOK {
			t.Errorf("%s: %d, %s", probe.HTTPGet.Path, status, text)
		}
	}
}

func TestStatefulSet(t *testing.T) {
	var set manifest
	services := map[string]manifest{}
	for _, m := range manifests(t, "statefulset.yaml") {
		switch m.Kind {
		case "StatefulSet":
			set = m
		case "Service":
			services[m.Metadata.Name] = m
		}
	}
	peers := services[set.Spec.ServiceName]
	if len(peers.Spec.Ports) == 0 {
		t.Fatalf("there is no service %q", set.Spec.ServiceName)
	}
	c := set.Spec.Template.Spec.Containers[0]
	ports := map[string]int{}
	for _, p := range c.Ports {
		ports[p.Name] = p.ContainerPort
	}
	for _, probe := range []probe{c.StartupProbe, c.LivenessProbe, c.ReadinessProbe} {
		if ports[fmt.Sprint(probe.HTTPGet.Port)] != 2381 {
			t.Errorf("a probe asks port %v", probe.HTTPGet.Port)
		}
	}
	known := []string{"data"} // claimed
	for _, v := range set.Spec.Template.Spec.Volumes {
		known = append(known, v.Name)
	}
	for _, m := range c.VolumeMounts {
		if !slices.Contains(known, m.Name) {
			t.Errorf("volume %s is nowhere", m.Name)
		}
	}
	for i := range 3 {
		name := fmt.Sprintf("keelson-%d", i)
		var flags []string
		for _, f := range c.Command[1:] {
			flags = append(flags, strings.ReplaceAll(f, "$(POD_NAME)", name))
		}
		got := checkSettings(t, name, nil, flags...)
		if got == "" {
			continue // it was said why
		}
		advertised := "https://" + name + "." + set.Spec.ServiceName + ":2380"
		for _, want := range []string{name + "=" + advertised, "initial-advertise-peer-urls"} {
			if !strings.Contains(got, want) {
				t.Errorf("%s: %q is not in effect", name, want)
			}
		}
	}
}

func TestSystemdUnit(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(deployDir, "systemd", "keelson.service"))
	if err != nil {
		t.Fatal(err)
	}
	environ, err := os.ReadFile(filepath.Join(deployDir, "systemd", "member.env"))
	if err != nil {
		t.Fatal(err)
	}
	var variables []string
	for line := range strings.Lines(string(environ)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			variables = append(variables, line)
		}
	}
	got := checkSettings(t, "systemd", variables)
	if want := "ETCD_INITIAL_CLUSTER"; !strings.Contains(got, want) {
		t.Errorf("%s is not in effect:\n%s", want, got)
	}
	for _, want := range []string{"Type=notify", "ExecStart=/usr/local/bin/keelson serve", "LimitNOFILE=", "User=keelson"} {
		if !strings.Contains(string(text), want+"\n") && !strings.Contains(string(text), want) {
			t.Errorf("the unit does not say %s", want)
		}
	}
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		return // what can be checked without it was checked
	}
	unit := filepath.Join(t.TempDir(), "keelson.service")
	here := strings.ReplaceAll(string(text), "/usr/local/bin/keelson", testkit.Binary(t))
	if err := os.WriteFile(unit, []byte(here), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("systemd-analyze", "verify", "--man=no", unit).CombinedOutput(); err != nil || bytes.Contains(out, []byte("keelson.service")) {
		t.Errorf("systemd-analyze: %v\n%s", err, out)
	}
}

// TestContainerFile makes sure of what the image relies on: a binary that needs nothing, and a user that is not root.
func TestContainerFile(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(deployDir, "container", "Containerfile"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"CGO_ENABLED=0 go build", "FROM scratch", "bin/etcdctl", "bin/etcdutl", "USER 65532:65532", `ENTRYPOINT ["/usr/local/bin/etcd"]`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("it does not say %s", want)
		}
	}
	f, err := elf.Open(testkit.Binary(t))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			name, err := io.ReadAll(p.Open())
			t.Errorf("the binary needs %s (%v)", name, err)
		}
	}
	if libraries, err := f.ImportedLibraries(); len(libraries) > 0 || err != nil && !errors.Is(err, elf.ErrNoSymbols) {
		t.Errorf("the binary needs %v (%v)", libraries, err)
	}
}
