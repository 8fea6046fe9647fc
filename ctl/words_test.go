package ctl

import (
	"slices"
	"testing"
)

func TestWords(t *testing.T) {
	for _, c := range []struct {
		line string
		want []string
	}{
		{`put a b`, []string{"put", "a", "b"}},
		{`put "k 1" "a\nb"`, []string{"put", "k 1", "a\nb"}},
		{`put 'k 1' 'a\nb'`, []string{"put", "k 1", `a\nb`}},
		{`put k "say \"hi\""`, []string{"put", "k", `say "hi"`}},
		{`  get   a  --prefix `, []string{"get", "a", "--prefix"}},
		{`get "a`, []string{"get", "a"}},
		{`put k ""`, []string{"put", "k", ""}},
		{``, nil},
	} {
		if got := words(c.line); !slices.Equal(got, c.want) {
			t.Errorf("%q: %q, want %q", c.line, got, c.want)
		}
	}
}

func TestCompareGrammar(t *testing.T) {
	for _, c := range []struct{ line, refusal string }{
		{`value("a") = "1"`, ""},
		{`val("a b") != ""`, ""},
		{`ver("a") > "0"`, ""},
		{`version("a") < "9"`, ""},
		{`c("a") = "0"`, ""},
		{`create("a") = "0"`, ""},
		{`m("a") = "0"`, ""},
		{` mod("a")   =   "0" `, ""},
		{`lease("a") = "694d9fa7d1a4c40a"`, ""},
		{`bad`, `malformed comparison: bad`},
		{`ver("k") ? "1"`, `malformed comparison: ver("k") ? "1"; got ver("k") ? "1"`},
		{`val("a")="10"`, `malformed comparison: val("a")="10"; got val("a")  ""`},
		{`ver("a") > 0`, `malformed comparison: ver("a") > 0; got ver("a") > ""`},
		{`bad("k") = "v"`, `malformed comparison: bad("k") = "v" (unknown target bad)`},
		{`ver("k") = "v"`, `invalid txn compare request: ver("k") = "v"`},
		{`lease("k") = "zz"`, `invalid txn compare request: lease("k") = "zz"`},
	} {
		_, err := parseCompare(c.line)
		if got := text(err); got != c.refusal {
			t.Errorf("%s: %q, want %q", c.line, got, c.refusal)
		}
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
