package cli

import (
	"bytes"
	"errors"
	"testing"
)

func TestTable(t *testing.T) {
	var b bytes.Buffer
	if err := Table(&b, []string{"ID", "Status", "Name"}, [][]string{{"420dbf3f4fea9be4", "unstarted", ""}, {"1", "started", "日本"}}); err != nil {
		t.Fatal(err)
	}
	const want = `
┌──────────────────┬───────────┬──────┐
│        ID        │  STATUS   │ NAME │
├──────────────────┼───────────┼──────┤
│ 420dbf3f4fea9be4 │ unstarted │      │
│                1 │   started │ 日本 │
└──────────────────┴───────────┴──────┘
`
	if got := "\n" + b.String(); got != want {
		t.Errorf("got %s want %s", got, want)
	}
}

func TestReport(t *testing.T) {
	for _, c := range []struct {
		err  error
		code int
		text string
	}{
		{nil, 0, ""},
		{errors.New("no"), 1, "Error: no\n"},
		{Fail(ExitBadArgs, "bad %d", 7), 128, "Error: bad 7\n"},
		{With(ExitInterrupted, Fail(ExitBadArgs, "first")), 128, "Error: first\n"},
		{With(ExitInterrupted, nil), 0, ""},
		{Silent(4), 4, ""},
	} {
		var b bytes.Buffer
		if code := Report(&b, c.err); code != c.code || b.String() != c.text {
			t.Errorf("%v: %d, %q", c.err, code, &b)
		}
	}
}
