package v2

import (
	"encoding/json"
	"testing"

	"keelson/state/tree"
)

// FuzzString: strings are written as encoding/json writes them.
func FuzzString(f *testing.F) {
	for _, s := range []string{"", "plain", "<a>&\u2028", "\xff\xfe", "quote\"\\", "\x00\x1f\x7f", "日本"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		want, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if got := appendString(nil, s); string(got) != string(want) {
			t.Errorf("%q: %s, want %s", s, got, want)
		}
		if got := appendString(nil, []byte(s)); string(got) != string(want) {
			t.Errorf("bytes %q: %s, want %s", s, got, want)
		}
	})
}

// FuzzParse: whatever is asked, the answer is either a path that the tree takes or a refusal that has a status and a text.
func FuzzParse(f *testing.F) {
	f.Add("PUT", "/v2/keys/a%2fb/../c?prevExist=true&ttl=5", "value=1&refresh=x")
	f.Add("GET", "/v2/keys//?wait=true&waitIndex=18446744073709551615", "")
	f.Add("POST", "/v2/keys/%00%01?dir=1", "ttl=18446744073709551615")
	f.Fuzz(func(t *testing.T, method, target, body string) {
		r, ok := fuzzRequest(method, target, body)
		if !ok {
			return
		}
		q, refusal := parseHTTP(r, epoch)
		if refusal != nil {
			if messages[refusal.Code] == "" || refusal.Index != 0 || statusOf(refusal.Code) != 400 {
				t.Errorf("%+v", refusal)
			}
			return
		}
		if wrong := tree.CheckPath(q.path); wrong != "" || q.hasTTL && q.deadline < epoch.UnixNano() {
			t.Errorf("%q: %s; deadline %d", q.path, wrong, q.deadline)
		}
		if method != "GET" && method != "HEAD" {
			q.command()
		}
	})
}

// Every code has a text, every status is one that clients know.
func TestEveryCodeHasATextAndAStatus(t *testing.T) {
	for code := range messages {
		switch status := statusOf(code); status {
		case 400, 401, 403, 404, 412, 500:
		default:
			t.Errorf("%d: %d", code, status)
		}
	}
	for _, c := range []tree.Code{
		tree.CodeKeyNotFound, tree.CodeCompareFailed, tree.CodeNotFile, tree.CodeNotDir, tree.CodeExists, tree.CodeRootReadOnly,
		tree.CodeDirNotEmpty, tree.CodeInvalidField, tree.CodeOutdated, codeUnauthorized, codePrevValue, codeTTLNaN, codeIndexNaN,
		codeInvalidForm, codeRefreshValue, codeRefreshTTL, codeRaftInternal,
	} {
		if messages[c] == "" {
			t.Errorf("%d has no text", c)
		}
	}
}
