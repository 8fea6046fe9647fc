package v2

import (
	"bytes"
	"net/url"
	"strconv"

	"keelson/state/tree"
)

// parameter names a parameter of requests for keys.
type parameter uint8

const (
	pValue parameter = iota
	pTTL
	pDir
	pRecursive
	pSorted
	pQuorum
	pWait
	pWaitIndex
	pStream
	pPrevExist
	pPrevValue
	pPrevIndex
	pRefresh
	pNoValueOnSuccess
	parameters
)

var parameterNames = [parameters]string{
	pValue: "value", pTTL: "ttl", pDir: "dir", pRecursive: "recursive", pSorted: "sorted", pQuorum: "quorum", pWait: "wait",
	pWaitIndex: "waitIndex", pStream: "stream", pPrevExist: "prevExist", pPrevValue: "prevValue", pPrevIndex: "prevIndex",
	pRefresh: "refresh", pNoValueOnSuccess: "noValueOnSuccess",
}

// form holds the parameters of a request, and reads them. The first thing that is wrong stands in refusal.
type form struct {
	values  [parameters]string
	given   [parameters]bool
	refusal *tree.Error
}

// take adds the parameters of a form that is taken apart. What is there already stays.
func (f *form) take(values url.Values) {
	for p, name := range parameterNames {
		if list := values[name]; len(list) > 0 {
			f.set(parameter(p), list[0])
		}
	}
}

func (f *form) set(p parameter, value string) {
	if !f.given[p] {
		f.given[p], f.values[p] = true, value
	}
}

// pairsMax bounds the parameters of an encoded form that is read without package url.
const pairsMax = 64

// takeEncoded adds the parameters of an encoded form. What is there already stays. It reports false if anything is unusual:
// then nothing may be made of the form.
func (f *form) takeEncoded(encoded []byte) bool {
	for range pairsMax {
		if len(encoded) == 0 {
			return true
		}
		pair := encoded
		if end := bytes.IndexByte(encoded, '&'); end >= 0 {
			pair, encoded = encoded[:end], encoded[end+1:]
		} else {
			encoded = nil
		}
		if len(pair) > 0 && !f.takePair(pair) {
			return false
		}
	}
	return len(encoded) == 0
}

func (f *form) takePair(pair []byte) bool {
	name, value := pair, []byte(nil)
	if at := bytes.IndexByte(pair, '='); at >= 0 {
		name, value = pair[:at], pair[at+1:]
	}
	if bytes.ContainsAny(name, "%+;") {
		return false
	}
	p, known := parameterOf(name)
	text, ok := unescape(value, true)
	if ok && known {
		f.set(p, text)
	}
	return ok
}

func parameterOf(name []byte) (parameter, bool) {
	for p, known := range parameterNames {
		if string(name) == known {
			return parameter(p), true
		}
	}
	return 0, false
}

// unescape decodes what is encoded with percent signs and, in a form, with pluses. It reports false if that is wrong, and for
// semicolons in a form, which somebody may take for separators.
func unescape(b []byte, inForm bool) (string, bool) {
	plain := true
	for _, c := range b {
		switch {
		case c == '%', inForm && c == '+':
			plain = false
		case inForm && c == ';':
			return "", false
		}
	}
	if plain {
		return string(b), true
	}
	decoded := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case c == '+' && inForm:
			decoded = append(decoded, ' ')
		case c == '%':
			if i+2 >= len(b) {
				return "", false
			}
			high, low := digitOf(b[i+1]), digitOf(b[i+2])
			if high > 15 || low > 15 {
				return "", false
			}
			decoded = append(decoded, high<<4|low)
			i += 2
		default:
			decoded = append(decoded, c)
		}
	}
	return string(decoded), true
}

// digitOf is the value of a hexadecimal digit, or more than 15.
func digitOf(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10
	}
	return 16
}

func (f *form) refuse(code tree.Code, cause string) {
	if f.refusal == nil {
		f.refusal = fault(code, cause)
	}
}

func (f *form) has(p parameter) bool { return f.given[p] }

// get is the first of a parameter's values; body before query.
func (f *form) get(p parameter) string { return f.values[p] }

func (f *form) number(p parameter) uint64 {
	if !f.has(p) {
		return 0
	}
	n, err := strconv.ParseUint(f.get(p), 10, 64)
	if err != nil {
		f.refuse(codeIndexNaN, `invalid value for "`+parameterNames[p]+`"`)
	}
	return n
}

func (f *form) flag(p parameter) bool {
	if !f.has(p) {
		return false
	}
	v, err := strconv.ParseBool(f.get(p))
	if err != nil {
		f.refuse(codeInvalidField, `invalid value for "`+parameterNames[p]+`"`)
	}
	return v
}
