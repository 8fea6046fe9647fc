package v2

import (
	"math"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"keelson/state/tree"
)

// request is a request for keys, taken apart and checked.
type request struct {
	path    string // of the node, cleaned
	subject string // what access is decided by: the path as it came
	method  string

	value                                string
	prevValue                            string
	prevIndex, waitIndex                 uint64
	recursive, quorum, wait, dir, stream bool
	noValueOnSuccess, refresh            bool
	prevExist                            *bool // nil: not asked for
	hasTTL                               bool
	deadline                             int64 // with hasTTL: nanoseconds since 1970
}

const keysPrefix = "/v2/keys"

// parse takes a request apart. now is the moment that a time to live begins. What is wrong is found in the order of the
// specification.
//
// Source: v2 API specification, 3.
func parse(r *http.Request, now time.Time) (*request, *tree.Error) {
	if err := r.ParseForm(); err != nil {
		return nil, fault(codeInvalidForm, err.Error())
	}
	f := form{values: r.Form}
	q := &request{method: r.Method}
	q.subject = strings.TrimPrefix(r.URL.Path, keysPrefix)
	q.path = path.Clean("/" + q.subject)
	q.prevIndex = f.number("prevIndex")
	q.waitIndex = f.number("waitIndex")
	q.recursive = f.flag("recursive")
	f.flag("sorted") // listings always are
	q.wait = f.flag("wait")
	q.dir = f.flag("dir")
	q.quorum = f.flag("quorum")
	q.stream = f.flag("stream")
	if q.wait && r.Method != http.MethodGet {
		f.refuse(codeInvalidField, `"wait" can only be used with GET requests`)
	}
	if q.prevValue = f.get("prevValue"); q.prevValue == "" && f.has("prevValue") {
		f.refuse(codePrevValue, `"prevValue" cannot be empty`)
	}
	q.noValueOnSuccess = f.flag("noValueOnSuccess")
	q.parseTTL(&f, now)
	if f.has("prevExist") {
		v, err := strconv.ParseBool(f.get("prevExist"))
		if err != nil {
			f.refuse(codeInvalidField, "invalid value for prevExist")
		}
		q.prevExist = &v
	}
	q.value = f.get("value")
	q.parseRefresh(&f)
	if wrong := tree.CheckPath(q.path); wrong != "" {
		f.refuse(codeInvalidField, wrong)
	}
	return q, f.refusal
}

func (q *request) parseTTL(f *form, now time.Time) {
	text := f.get("ttl")
	if text == "" {
		return
	}
	ttl, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		f.refuse(codeTTLNaN, `invalid value for "ttl"`)
		return
	}
	q.hasTTL, q.deadline = true, deadline(now, ttl)
}

// deadline is a moment so many seconds from now, or the last one that there is.
func deadline(now time.Time, ttlSeconds uint64) int64 {
	start := now.UnixNano()
	if left := uint64(math.MaxInt64-start) / uint64(time.Second); ttlSeconds > left {
		return math.MaxInt64
	}
	return start + int64(ttlSeconds)*int64(time.Second)
}

func (q *request) parseRefresh(f *form) {
	if !f.has("refresh") {
		return
	}
	v, err := strconv.ParseBool(f.get("refresh"))
	if err != nil {
		f.refuse(codeInvalidField, "invalid value for refresh")
		return
	}
	q.refresh = v
	switch {
	case v && q.value != "":
		f.refuse(codeRefreshValue, "A value was provided on a refresh")
	case v && !q.hasTTL:
		f.refuse(codeRefreshTTL, "No TTL value set")
	}
}

// form reads parameters. The first thing that is wrong stands in refusal.
type form struct {
	values  url.Values
	refusal *tree.Error
}

func (f *form) refuse(code tree.Code, cause string) {
	if f.refusal == nil {
		f.refusal = fault(code, cause)
	}
}

func (f *form) has(name string) bool { _, ok := f.values[name]; return ok }

// get is the first of a parameter's values; body before query.
func (f *form) get(name string) string { return f.values.Get(name) }

func (f *form) number(name string) uint64 {
	if !f.has(name) {
		return 0
	}
	n, err := strconv.ParseUint(f.get(name), 10, 64)
	if err != nil {
		f.refuse(codeIndexNaN, `invalid value for "`+name+`"`)
	}
	return n
}

func (f *form) flag(name string) bool {
	if !f.has(name) {
		return false
	}
	v, err := strconv.ParseBool(f.get(name))
	if err != nil {
		f.refuse(codeInvalidField, `invalid value for "`+name+`"`)
	}
	return v
}
