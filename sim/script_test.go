package sim

import (
	"reflect"
	"strings"
	"testing"
)

func TestScriptsAreReadAsTheyAreWritten(t *testing.T) {
	text := `seed 17
members 3
steps 40
bug skip-log-sync
wants the log
reaches killed
reaches a crash within a flush
only m1 request 1 3-5 9
only weather 2
`
	s, err := ParseScript("# a comment\n" + text)
	if err != nil {
		t.Fatal(err)
	}
	if s.String() != text {
		t.Errorf("%s\nwant\n%s", s.String(), text)
	}
	want := Acts{{"m1 request", 1}: true, {"m1 request", 3}: true, {"m1 request", 4}: true, {"m1 request", 5}: true, {"m1 request", 9}: true, {"weather", 2}: true}
	if !reflect.DeepEqual(s.Only, want) {
		t.Errorf("%v, want %v", s.Only, want)
	}
	half := s.Only.Without(0, 2)
	if len(half) != 3 || len(s.Only.Without(1, 2)) != 3 || len(half) == len(s.Only) {
		t.Errorf("without a half: %v", half)
	}
	for _, bad := range []string{"seed x", "only 1", "only m1 1-x", "only m1 1-99999999", "what 1"} {
		if _, err := ParseScript(bad); err == nil || !strings.HasPrefix(err.Error(), "sim: script: line 1: ") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestScriptsHold(t *testing.T) {
	s := Script{Reaches: []string{"a"}}
	if why := s.Holds(&Report{}); why != "it does not reach: a" {
		t.Error(why)
	}
	if why := s.Holds(&Report{Reached: map[string]int{"a": 1}}); why != "" {
		t.Error(why)
	}
	s = Script{Options: Options{Bug: "b"}, Wants: "c"}
	if why := s.Holds(&Report{}); why == "" {
		t.Error("a bug without a failure holds")
	}
}
