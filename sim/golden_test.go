package sim_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"keelson/sim"
)

// TestGolden runs the scripts that are kept for this build. One with a deliberate bug must fail with it, and not without.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(sim.Scripts, "*.txt"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%d scripts: %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s, err := sim.ParseScript(string(text))
			if err != nil {
				t.Fatal(err)
			}
			r := simulate(t, s.Options)
			if why := s.Holds(&r); why != "" {
				t.Errorf("%s; look for another run with -minimise", why)
			}
			s.Bug = ""
			if r := simulate(t, s.Options); r.Failure != nil {
				t.Errorf("without a bug: %v", r.Failure)
			}
		})
	}
}

// TestMinimise makes a script of a run that fails, or that reaches something, and leaves out what is not needed for that:
//
//	go test ./sim -run TestMinimise -minimise=NAME -seed=17 -members=3 [-bug=BUG] [-reaches='STATE|STATE']
//
// It begins at the seed and goes on until it finds a run. Without a name it tries what it can do on an example.
func TestMinimise(t *testing.T) {
	o := sim.Options{Seed: *seedFlag, Members: max(*membersFlag, 1), Steps: *stepsFlag, Bug: *bugFlag}
	name, dir, seeds := *minimiseFlag, sim.Scripts, *seedsFlag
	if name == "" {
		o = sim.Options{Seed: 1, Members: 1, Steps: 1000, Bug: "skip-directory-sync"}
		name, dir, seeds = "example", t.TempDir(), 50
	}
	s, r, ok := findRun(t, o, seeds)
	if !ok {
		t.Fatalf("no run within %d seeds", seeds)
	}
	s.Only = r.Acts
	before := s.Only.Len()
	tries := *triesFlag
	holds := func(c sim.Script) (r sim.Report, ok bool) {
		if tries--; tries < 0 {
			return r, false
		}
		r = simulate(t, c.Options)
		return r, c.Holds(&r) == ""
	}
	for steps := s.Steps / 2; steps > 0; steps /= 2 {
		c := s
		c.Steps = steps
		if r, ok := holds(c); ok {
			c.Only = r.Acts
			s = c
		}
	}
	for parts := 2; tries > 0; parts *= 2 {
		for k := 0; k < parts && s.Only.Len() > 0; k++ {
			c := s
			c.Only = s.Only.Without(k, parts)
			if r, ok := holds(c); ok {
				c.Only = r.Acts // of what may be done, some is never reached
				s = c
				k--
				parts = max(parts-1, 2)
			}
		}
		if parts >= s.Only.Len() {
			break
		}
	}
	text := s.String()
	file := filepath.Join(dir, name+".txt")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s, after %d runs: of %d things %d are left", file, *triesFlag-max(tries, 0), before, s.Only.Len())
	if s.Only.Len() >= before {
		t.Error("nothing could be left out")
	}
	if r := simulate(t, s.Options); s.Holds(&r) != "" {
		t.Errorf("what is left does not show it any more: %s\n%s", s.Holds(&r), text)
	}
}

// findRun looks for a run to make a script of.
func findRun(t *testing.T, o sim.Options, seeds int) (s sim.Script, r sim.Report, ok bool) {
	for range seeds {
		s = sim.Script{Options: o}
		o.Seed++
		if *reachesFlag != "" {
			s.Reaches = strings.Split(*reachesFlag, "|")
		}
		r = simulate(t, s.Options)
		if r.Failure != nil {
			s.Wants = essence(r.Failure.Error())
			if s.Bug == "" {
				s.Bug = "none" // a failure without a bug is what is wanted until it is mended
			}
		}
		if s.Holds(&r) == "" && (r.Failure != nil || len(s.Reaches) > 0) {
			return s, r, true
		}
	}
	return s, r, false
}

// essence is the longest part of a message that has no numbers in it.
func essence(message string) string {
	line, _, _ := strings.Cut(message, "\n")
	parts := strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune("0123456789\"[]{}", r) })
	longest := ""
	for _, p := range parts {
		if p = strings.TrimSpace(p); len(p) > len(longest) {
			longest = p
		}
	}
	return longest
}
