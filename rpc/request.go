package rpc

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// request is what a client asks for in the header block that opens a stream, apart from its timeout. It is never
// changed: many calls share one.
type request struct {
	fields []hpack.HeaderField // as they came, without grpc-timeout

	malformed string   // not empty: against RFC 9113, answered with a reset
	refusal   *refusal // not nil: answered at once
	isGRPC    bool

	httpMethod, path, scheme, authority string
	contentLength                       int64 // -1: not said

	// Of gRPC calls:
	method         *method // nil: unknown
	metadata       metadata.MD
	contentSubtype string
	encoding       string              // of the messages; empty: none
	compressor     encoding.Compressor // for encoding, both ways; nil: none
}

// refusal is an answer that needs no handler.
type refusal struct {
	httpStatus int
	status     *status.Status
}

var tooLargeRequest = &request{contentLength: -1, refusal: &refusal{http.StatusRequestHeaderFieldsTooLarge,
	status.New(codes.ResourceExhausted, "the request's header fields are too large")}}

// malformedTimeout is a call whose grpc-timeout can't be read. What else is wrong with it goes first.
func malformedTimeout(find func(string) *method, fields []hpack.HeaderField, err error) *request {
	r := newRequest(find, append([]hpack.HeaderField(nil), fields...))
	if r.isGRPC && r.refusal == nil {
		r.refusal = &refusal{http.StatusBadRequest, status.Newf(codes.Internal, "malformed grpc-timeout: %v", err)}
	}
	return r
}

// newRequest reads the fields of a block, which it keeps.
func newRequest(find func(string) *method, fields []hpack.HeaderField) *request {
	r := &request{fields: fields, contentLength: -1}
	if r.malformed = r.readHTTP(); r.malformed != "" {
		return r
	}
	r.readGRPC()
	if r.isGRPC && r.refusal == nil {
		r.method = find(r.path)
	}
	return r
}

// readHTTP takes from the fields what HTTP/2 says about them, and returns what is against it. RFC 9113, 8.2 and 8.3.
func (r *request) readHTTP() (malformed string) {
	seen := map[string]bool{}
	regular := false
	for _, f := range r.fields {
		if !f.IsPseudo() {
			regular = true
			if m := malformedField(f); m != "" {
				return m
			}
			if f.Name == "content-length" {
				n, err := strconv.ParseUint(f.Value, 10, 63)
				if err != nil || r.contentLength >= 0 && r.contentLength != int64(n) {
					return "a content-length that is no number"
				}
				r.contentLength = int64(n)
			}
			continue
		}
		var to *string
		switch f.Name {
		case ":method":
			to = &r.httpMethod
		case ":path":
			to = &r.path
		case ":scheme":
			to = &r.scheme
		case ":authority":
			to = &r.authority
		default:
			return "unknown pseudo-header"
		}
		switch {
		case regular:
			return "a pseudo-header behind others"
		case seen[f.Name]:
			return "a pseudo-header twice"
		case !httpguts.ValidHeaderFieldValue(f.Value):
			return "illegal characters in a pseudo-header"
		}
		seen[f.Name], *to = true, f.Value
	}
	if r.httpMethod == http.MethodConnect {
		if r.scheme != "" || r.path != "" || r.authority == "" {
			return "CONNECT with other pseudo-headers than its own"
		}
		return ""
	}
	if r.httpMethod == "" || r.scheme == "" || r.path == "" {
		return "a pseudo-header is missing"
	}
	return ""
}

// malformedField tells what is against RFC 9113, 8.2, in a field that is no pseudo-header.
func malformedField(f hpack.HeaderField) string {
	switch f.Name {
	case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade":
		return "a field that is for connections of HTTP/1"
	case "te":
		if f.Value != "trailers" {
			return "te is not trailers"
		}
	}
	if !validFieldName(f.Name) {
		return "illegal name of a field"
	}
	if !httpguts.ValidHeaderFieldValue(f.Value) {
		return "illegal value of a field"
	}
	return ""
}

func validFieldName(name string) bool {
	for i := range len(name) {
		if c := name[i]; 'A' <= c && c <= 'Z' || !httpguts.IsTokenRune(rune(c)) {
			return false
		}
	}
	return name != ""
}

const (
	contentTypeGRPC = "application/grpc"
	binarySuffix    = "-bin"
)

// readGRPC takes from the fields what gRPC says about them. The order of the checks is that of grpc-go.
func (r *request) readGRPC() {
	r.metadata = make(metadata.MD, len(r.fields))
	contentType := ""
	var refused *status.Status
	for _, f := range r.fields {
		switch f.Name {
		case "content-type":
			subtype, ok := contentSubtype(strings.ToLower(f.Value))
			if !ok {
				contentType = f.Value
				continue
			}
			r.isGRPC, r.contentSubtype = true, subtype
		case "grpc-encoding":
			r.encoding = f.Value
			continue
		case ":method", ":path", ":scheme", "te", "grpc-message-type", "grpc-message", "grpc-status":
			continue
		}
		value := f.Value
		if strings.HasSuffix(f.Name, binarySuffix) {
			b, err := decodeBinary(f.Value)
			if err != nil {
				refused = status.Newf(codes.Internal, "malformed binary metadata %q in header %q: %v", f.Value, f.Name, err)
				continue
			}
			value = string(b)
		}
		r.metadata[f.Name] = append(r.metadata[f.Name], value)
	}
	hosts := r.metadata["host"]
	refuse := func(httpStatus int, s *status.Status) { r.refusal = &refusal{httpStatus, s} }
	switch {
	case len(hosts) > 1:
		refuse(http.StatusBadRequest, status.Newf(codes.Internal,
			"num values of :authority: %v, num values of host: %v, both must only have 1 value as per HTTP/2 spec",
			len(r.metadata[":authority"]), len(hosts)))
		return
	case !r.isGRPC:
		refuse(http.StatusUnsupportedMediaType, status.Newf(codes.InvalidArgument, "invalid gRPC request content-type %q", contentType))
		return
	case refused != nil:
		refuse(http.StatusBadRequest, refused)
		return
	}
	delete(r.metadata, "host")
	if len(r.metadata[":authority"]) == 0 { // an empty one is one: old clients of etcd send it
		if len(hosts) == 0 {
			refuse(http.StatusBadRequest, status.New(codes.Internal, "no host or :authority header present"))
			return
		}
		r.metadata[":authority"] = hosts
	}
	if r.httpMethod != http.MethodPost {
		refuse(http.StatusMethodNotAllowed, status.Newf(codes.Internal,
			"Received a HEADERS frame with :method %q which should be POST", r.httpMethod))
		return
	}
	if r.encoding == encoding.Identity {
		r.encoding = ""
	}
	if r.encoding != "" {
		r.compressor = encoding.GetCompressor(r.encoding)
	}
}

// contentSubtype is what follows application/grpc in a content type that begins so.
func contentSubtype(contentType string) (subtype string, ok bool) {
	rest, ok := strings.CutPrefix(contentType, contentTypeGRPC)
	switch {
	case !ok:
		return "", false
	case rest == "":
		return "", true
	case rest[0] == '+' || rest[0] == ';':
		return rest[1:], true
	}
	return "", false
}

// contentType is what a reply says.
func (r *request) contentType() string {
	if r.contentSubtype == "" {
		return contentTypeGRPC
	}
	return contentTypeGRPC + "+" + r.contentSubtype
}

func decodeBinary(v string) ([]byte, error) {
	if len(v)%4 == 0 {
		return base64.StdEncoding.DecodeString(v)
	}
	return base64.RawStdEncoding.DecodeString(v)
}

// parseTimeout reads a grpc-timeout: up to eight digits and a unit.
func parseTimeout(s string) (time.Duration, error) {
	switch {
	case len(s) < 2:
		return 0, fmt.Errorf("transport: timeout string is too short: %q", s)
	case len(s) > 9:
		return 0, fmt.Errorf("transport: timeout string is too long: %q", s)
	}
	var unit time.Duration
	switch s[len(s)-1] {
	case 'H':
		unit = time.Hour
	case 'M':
		unit = time.Minute
	case 'S':
		unit = time.Second
	case 'm':
		unit = time.Millisecond
	case 'u':
		unit = time.Microsecond
	case 'n':
		unit = time.Nanosecond
	default:
		return 0, fmt.Errorf("transport: timeout unit is not recognized: %q", s)
	}
	n, err := strconv.ParseUint(s[:len(s)-1], 10, 63)
	if err != nil {
		return 0, err
	}
	if n > math.MaxInt64/uint64(unit) {
		return math.MaxInt64, nil
	}
	return time.Duration(n) * unit, nil
}

// splitPath cuts /service/method apart.
func splitPath(path string) (service, name string, err error) {
	rest, ok := strings.CutPrefix(path, "/")
	i := strings.LastIndexByte(rest, '/')
	if !ok || i < 0 {
		return "", "", errors.New("malformed")
	}
	return rest[:i], rest[i+1:], nil
}

// reset is the answer to a request that is against the protocol.
func (r *request) reset(id uint32) error {
	return &streamError{id, http2.ErrCodeProtocol, r.malformed}
}
