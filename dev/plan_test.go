package dev

import (
	"errors"
	"flag"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"keelson/config"
)

func options(t *testing.T, line string) Options {
	t.Helper()
	o, err := parseOptions(strings.Fields(line), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestOptions(t *testing.T) {
	o := options(t, "--members 5 --host=::1 -- --snapshot-count=100")
	if o.Members != 5 || o.Host != "::1" || o.BasePort != 2379 || o.DataDir != "keelson-dev" || o.Restart ||
		!slices.Equal(o.MemberArgs, []string{"--snapshot-count=100"}) {
		t.Errorf("%+v", o)
	}
	for line, want := range map[string]string{
		"--members 0":                   "--members=0: a number from 1 to 6 is needed",
		"--members 7":                   "--members=7: a number from 1 to 6 is needed",
		"--base-port 0":                 "--base-port=0: with 3 members it can be 1 to 35534, as the others' ports lie above it",
		"--base-port 35535":             "--base-port=35535: with 3 members it can be 1 to 35534, as the others' ports lie above it",
		"--members 1 --base-port 65535": "--base-port=65535: with 1 members it can be 1 to 65534, as the others' ports lie above it",
		"--host 0.0.0.0":                "--host=0.0.0.0: an IP address of this machine, or localhost, is needed",
		"--host example.com":            "--host=example.com: an IP address of this machine, or localhost, is needed",
		"--data-dir=":                   "--data-dir must not be empty",
		"--nothing":                     "flag provided but not defined: -nothing",
	} {
		if _, err := parseOptions(strings.Fields(line), io.Discard); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", line, err, want)
		}
	}
	var help strings.Builder
	if _, err := parseOptions([]string{"--help"}, &help); !errors.Is(err, flag.ErrHelp) || !strings.Contains(help.String(), "kill NAME") {
		t.Errorf("%v, %s", err, &help)
	}
	for _, line := range []string{"--members 6", "--base-port 35534", "--host localhost"} {
		options(t, line)
	}
}

func TestPlaces(t *testing.T) {
	places := plan{planVersion, 6, "127.0.0.1", 2379, false}.places("d")
	var got []string
	for _, p := range places {
		got = append(got, p.name+" "+p.client+" "+p.peer)
	}
	want := []string{
		"m1 127.0.0.1:2379 127.0.0.1:2380", "m2 127.0.0.1:22379 127.0.0.1:22380", "m3 127.0.0.1:32379 127.0.0.1:32380",
		"m4 127.0.0.1:42379 127.0.0.1:42380", "m5 127.0.0.1:52379 127.0.0.1:52380", "m6 127.0.0.1:62379 127.0.0.1:62380",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if places[1].dataDir != filepath.Join("d", "m2") || places[1].logPath != filepath.Join("d", "m2.log") {
		t.Errorf("%+v", places[1])
	}
}

// The flags are those of a member, and describe one cluster.
func TestFlagsAreThoseOfAMember(t *testing.T) {
	places := plan{planVersion, 3, "::1", 2379, false}.places("d")
	for _, p := range places {
		c, _, err := config.Load("serve", flagsOf(p, places, []string{"--snapshot-count=7"}), config.Machine{
			ReadFile: func(string) ([]byte, error) { return nil, fs.ErrNotExist }, DefaultHost: config.DefaultHost,
		})
		if err != nil {
			t.Fatal(err)
		}
		f, err := c.Founding(t.Context(), nil, c.Cluster.Initial, c.Cluster.InitialToken)
		if err != nil {
			t.Fatal(err)
		}
		if len(f.Members) != 3 || f.Local().Name != p.name || c.Member.ListenPeerURLs.String() != "http://"+p.peer ||
			c.Cluster.AdvertiseClientURLs.String() != "http://"+p.client || c.Storage.SnapshotCount != 7 {
			t.Errorf("%s: %+v", p.name, c)
		}
	}
}

func TestPlanStays(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "cluster")
	first := options(t, "--members 5 --base-port 12379 --data-dir "+dir)
	if p, err := loadPlan(first); err != nil || p != (plan{2, 5, "127.0.0.1", 12379, false}) {
		t.Fatal(p, err)
	}
	text, err := os.ReadFile(filepath.Join(dir, planName))
	if err != nil {
		t.Fatal(err)
	}
	fixture, err := os.ReadFile("testdata/plan.v2.json")
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != string(fixture) {
		t.Errorf("written:\n%s", text)
	}
	for _, line := range []string{"", "--members 5", "--base-port 12379 --host 127.0.0.1"} {
		if p, err := loadPlan(options(t, line+" --data-dir "+dir)); err != nil || p != (plan{2, 5, "127.0.0.1", 12379, false}) {
			t.Errorf("%s: %+v, %v", line, p, err)
		}
	}
	for line, want := range map[string]string{
		"--members 3":       "--members=5, not 3",
		"--base-port 2379":  "--base-port=12379, not 2379",
		"--host localhost ": "--host=127.0.0.1, not localhost",
		"--tls":             "--tls=false, not true",
	} {
		if p, err := loadPlan(options(t, line+" --data-dir "+dir)); err == nil || !strings.Contains(err.Error(), "was begun with "+want) {
			t.Errorf("%s: %+v, %v", line, p, err)
		}
	}
}

func TestPlanIsRead(t *testing.T) {
	for file, want := range map[string]plan{
		"plan.v1.json": {1, 5, "127.0.0.1", 12379, false}, "plan.v2.json": {2, 5, "127.0.0.1", 12379, false},
	} {
		text, err := os.ReadFile(filepath.Join("testdata", file))
		if err != nil {
			t.Fatal(err)
		}
		if p, err := parsePlan(text); err != nil || p != want {
			t.Errorf("%s: %+v, %v", file, p, err)
		}
	}
	for text, want := range map[string]string{
		``:                         "not a plan of a cluster: unexpected end of JSON input; remove the directory to begin anew",
		`{"version":3}`:            "version 3, this program knows 2",
		`{"version":1,"tls":true}`: "version 1 with TLS; remove the directory to begin anew",
		`{"version":1}`:            "not a plan of a cluster: --members=0: a number from 1 to 6 is needed; remove the directory to begin anew",
	} {
		if p, err := parsePlan([]byte(text)); err == nil || err.Error() != want {
			t.Errorf("%q: %+v, %v", text, p, err)
		}
	}
}

// FuzzPlan: whatever the file holds, what is read of it can be carried out.
func FuzzPlan(f *testing.F) {
	fixture, err := os.ReadFile("testdata/plan.v1.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(fixture)
	f.Add([]byte(`{"version":1,"members":-1,"host":"x","basePort":99999}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := parsePlan(text)
		if err != nil {
			return
		}
		if places := p.places("d"); len(places) != p.Members || len(places) < 1 || len(places) > membersMax {
			t.Errorf("%d places for %+v", len(places), p)
		}
	})
}
