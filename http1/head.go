package http1

import "bytes"

// Request is a simple request. What its fields point to belongs to the connection: it is valid until the handler returns.
type Request struct {
	Method string // GET, HEAD, PUT, POST or DELETE
	// Path and Query are what the target has before and after its first question mark, as they came. A path begins with a
	// slash.
	Path, Query []byte
	// Host, Authorization, Origin and ContentType are the values of those fields; nil: there is none.
	Host, Authorization, Origin, ContentType []byte
	Body                                     []byte

	headLength, bodyLength int
	close                  bool // the client wants the connection to end
}

const (
	// headMax bounds the head of a simple request, fieldsMax its fields.
	headMax   = 8 << 10
	fieldsMax = 64
	// inputMax bounds a simple request.
	inputMax = 64 << 10

	lengthDigitsMax = 7
)

// verdict is what the beginning of a connection's input is.
type verdict uint8

const (
	simple verdict = iota
	incomplete
	odd
)

// parse looks at the head of the request that b begins with. If it is simple, r is the request but for its body, of which
// bodyLength bytes follow on headLength. Heads that are odd are often found before they are complete.
//
// Source: RFC 9112, 2 to 6.
func parse(b []byte, r *Request) verdict {
	line, at, v := nextLine(b, 0)
	if v != simple {
		return v
	}
	*r = Request{bodyLength: -1}
	if !r.parseLine(line) {
		return odd
	}
	connection := false
	for range fieldsMax + 1 {
		if line, at, v = nextLine(b, at); v != simple {
			return v
		}
		if len(line) == 0 {
			r.headLength = at
			return r.complete()
		}
		if !r.parseField(line, &connection) {
			return odd
		}
	}
	return odd
}

// nextLine returns the line at a place, without its end, and where the next one begins.
func nextLine(b []byte, at int) (line []byte, next int, v verdict) {
	end := bytes.IndexByte(b[at:], '\n')
	switch {
	case end < 0 && len(b) >= headMax:
		return nil, 0, odd
	case end < 0:
		return nil, 0, incomplete
	case end == 0 || b[at+end-1] != '\r' || at+end >= headMax:
		return nil, 0, odd
	}
	return b[at : at+end-1], at + end + 1, simple
}

// complete decides what can be decided when all fields are known.
func (r *Request) complete() verdict {
	if r.Host == nil {
		return odd
	}
	takesBody := r.Method == "PUT" || r.Method == "POST"
	if r.bodyLength > 0 && !takesBody || r.headLength+r.bodyLength > inputMax {
		return odd
	}
	r.bodyLength = max(r.bodyLength, 0)
	return simple
}

const version = " HTTP/1.1"

// parseLine takes a request line apart.
func (r *Request) parseLine(line []byte) bool {
	space := bytes.IndexByte(line, ' ')
	if space < 0 || len(line) < space+1+len(version) || string(line[len(line)-len(version):]) != version {
		return false
	}
	switch string(line[:space]) {
	case "GET":
		r.Method = "GET"
	case "PUT":
		r.Method = "PUT"
	case "POST":
		r.Method = "POST"
	case "DELETE":
		r.Method = "DELETE"
	case "HEAD":
		r.Method = "HEAD"
	default:
		return false
	}
	target := line[space+1 : len(line)-len(version)]
	if len(target) == 0 || target[0] != '/' {
		return false
	}
	for _, c := range target {
		if kinds[c]&isTarget == 0 {
			return false
		}
	}
	r.Path = target
	if mark := bytes.IndexByte(target, '?'); mark >= 0 {
		r.Path, r.Query = target[:mark], target[mark+1:]
	}
	return isEncoded(r.Path)
}

// isEncoded reports whether every percent sign stands before two hexadecimal digits.
func isEncoded(path []byte) bool {
	for {
		percent := bytes.IndexByte(path, '%')
		if percent < 0 {
			return true
		}
		path = path[percent+1:]
		if len(path) < 2 || kinds[path[0]]&kinds[path[1]]&isHex == 0 {
			return false
		}
	}
}

// parseField takes note of a field. It reports false for one that makes the request odd.
func (r *Request) parseField(line []byte, connection *bool) bool {
	colon := bytes.IndexByte(line, ':')
	if colon <= 0 {
		return false
	}
	name := line[:colon]
	for _, c := range name {
		if kinds[c]&isToken == 0 {
			return false
		}
	}
	value := bytes.Trim(line[colon+1:], " \t")
	if value == nil { // of an empty one
		value = line[len(line):]
	}
	for _, c := range value {
		if kinds[c]&isValue == 0 {
			return false
		}
	}
	switch len(name) {
	case len("TE"), len("Host"):
		if is(name, "te") {
			return false
		}
		if is(name, "host") {
			return isHost(value) && once(&r.Host, value)
		}
	case len("Origin"): // and Expect
		if is(name, "origin") {
			return once(&r.Origin, value)
		}
		return !is(name, "expect")
	case len("Upgrade"): // and Trailer
		return !is(name, "upgrade") && !is(name, "trailer")
	case len("Connection"):
		if is(name, "connection") {
			if *connection {
				return false
			}
			*connection = true
			r.close = is(value, "close")
			return r.close || is(value, "keep-alive")
		}
	case len("Content-Type"):
		if is(name, "content-type") {
			return once(&r.ContentType, value)
		}
	case len("Authorization"):
		if is(name, "authorization") {
			return once(&r.Authorization, value)
		}
	case len("Content-Length"): // and HTTP2-Settings
		if is(name, "content-length") {
			return r.parseLength(value)
		}
		return !is(name, "http2-settings")
	case len("Transfer-Encoding"):
		return !is(name, "transfer-encoding")
	}
	return true
}

// once takes the value of a field that may come once.
func once(at *[]byte, value []byte) bool {
	if *at != nil {
		return false
	}
	*at = value
	return true
}

func (r *Request) parseLength(value []byte) bool {
	if r.bodyLength >= 0 || len(value) == 0 || len(value) > lengthDigitsMax {
		return false
	}
	r.bodyLength = 0
	for _, c := range value {
		if c < '0' || c > '9' {
			return false
		}
		r.bodyLength = 10*r.bodyLength + int(c-'0')
	}
	return true
}

// is compares a name with one in lower case, whatever its case.
func is(name []byte, lower string) bool {
	if len(name) != len(lower) {
		return false
	}
	for i, c := range name {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// isHost reports whether a value is a name or address, perhaps with a port. It is less than what a host may be.
func isHost(value []byte) bool {
	for _, c := range value {
		if kinds[c]&isHostByte == 0 {
			return false
		}
	}
	return len(value) > 0
}

// What a byte may stand in.
const (
	isToken  = 1 << iota // RFC 9110, 5.6.2
	isValue              // the printable ones, space and tab
	isTarget             // the printable ones; a fragment does not belong there
	isHostByte
	isHex
)

var kinds = makeKinds()

func makeKinds() (k [256]uint8) {
	for c := 0x21; c < 0x7f; c++ {
		k[c] = isValue | isTarget
		isLetter := 'a' <= c|0x20 && c|0x20 <= 'z'
		if isLetter || '0' <= c && c <= '9' {
			k[c] |= isToken | isHostByte
		}
	}
	for _, c := range "0123456789abcdefABCDEF" {
		k[c] |= isHex
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		k[c] |= isToken
	}
	for _, c := range ".:-_[]" {
		k[c] |= isHostByte
	}
	k['#'] &^= isTarget
	k[' '] |= isValue
	k['\t'] |= isValue
	return k
}
