package v2

import (
	"math"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"

	"keelson/command"
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

	put command.TreePut // what command returns
}

const keysPrefix = "/v2/keys"

// parseHTTP takes a request of net/http apart. now is the moment that a time to live begins.
func parseHTTP(r *http.Request, now time.Time) (*request, *tree.Error) {
	if err := r.ParseForm(); err != nil {
		return nil, fault(codeInvalidForm, err.Error())
	}
	var f form
	f.take(r.Form)
	q := new(request)
	return q, q.parse(r.Method, r.URL.Path, &f, now)
}

// parse takes a request apart. What is wrong is found in the order of the specification.
//
// Source: v2 API specification, 3.
func (q *request) parse(method, decoded string, f *form, now time.Time) *tree.Error {
	*q = request{method: method}
	q.subject = strings.TrimPrefix(decoded, keysPrefix)
	q.path = q.subject
	if !strings.HasPrefix(q.path, "/") {
		q.path = "/" + q.path
	}
	q.path = path.Clean(q.path)
	q.prevIndex = f.number(pPrevIndex)
	q.waitIndex = f.number(pWaitIndex)
	q.recursive = f.flag(pRecursive)
	f.flag(pSorted) // listings always are
	q.wait = f.flag(pWait)
	q.dir = f.flag(pDir)
	q.quorum = f.flag(pQuorum)
	q.stream = f.flag(pStream)
	if q.wait && method != http.MethodGet {
		f.refuse(codeInvalidField, `"wait" can only be used with GET requests`)
	}
	if q.prevValue = f.get(pPrevValue); q.prevValue == "" && f.has(pPrevValue) {
		f.refuse(codePrevValue, `"prevValue" cannot be empty`)
	}
	q.noValueOnSuccess = f.flag(pNoValueOnSuccess)
	q.parseTTL(f, now)
	if f.has(pPrevExist) {
		v, err := strconv.ParseBool(f.get(pPrevExist))
		if err != nil {
			f.refuse(codeInvalidField, "invalid value for prevExist")
		}
		q.prevExist = &v
	}
	q.value = f.get(pValue)
	q.parseRefresh(f)
	if wrong := tree.CheckPath(q.path); wrong != "" {
		f.refuse(codeInvalidField, wrong)
	}
	return f.refusal
}

func (q *request) parseTTL(f *form, now time.Time) {
	text := f.get(pTTL)
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
	if !f.has(pRefresh) {
		return
	}
	v, err := strconv.ParseBool(f.get(pRefresh))
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
