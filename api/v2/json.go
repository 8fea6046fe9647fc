package v2

import (
	"encoding/json"
	"strconv"
	"time"

	"keelson/state/tree"
)

// appendString appends a JSON string as encoding/json writes it: what means something in HTML is escaped, and bytes that
// are not UTF-8 become U+FFFD.
func appendString[T string | []byte](dst []byte, s T) []byte {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' || c >= 0x80 || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			b, err := json.Marshal(string(s))
			if err != nil {
				panic("v2: a string can't be encoded: " + err.Error())
			}
			return append(dst, b...)
		}
	}
	dst = append(dst, '"')
	dst = append(dst, s...)
	return append(dst, '"')
}

// appendEvent appends an event and a newline.
//
// Source: v2 API specification, 5.
func appendEvent(dst []byte, e *tree.Event) []byte {
	dst = append(dst, `{"action":"`...)
	dst = append(dst, e.Action.String()...)
	dst = append(dst, `","node":`...)
	dst = appendNode(dst, &e.Node, e.Time, !e.Action.Removes())
	if e.Prev != nil {
		dst = append(dst, `,"prevNode":`...)
		dst = appendNode(dst, e.Prev, e.Time, true)
	}
	return append(dst, "}\n"...)
}

// appendNode appends a node as it is as of now (nanoseconds since 1970), without what is in it. Only a node that is there
// has a value.
func appendNode(dst []byte, n *tree.Node, now int64, there bool) []byte {
	dst = openNode(dst, n, now, there)
	return closeNode(dst, n)
}

// openNode appends a node up to where a listing follows.
func openNode(dst []byte, n *tree.Node, now int64, there bool) []byte {
	dst = append(dst, '{')
	if n.Path != tree.Root {
		dst = append(dst, `"key":`...)
		dst = appendString(dst, n.Path)
		dst = append(dst, ',')
	}
	switch {
	case n.Dir:
		dst = append(dst, `"dir":true,`...)
	case there:
		dst = append(dst, `"value":`...)
		dst = appendString(dst, n.Value)
		dst = append(dst, ',')
	}
	if n.Deadline != 0 {
		dst = append(dst, `"expiration":"`...)
		dst = time.Unix(0, n.Deadline).UTC().AppendFormat(dst, time.RFC3339Nano)
		dst = append(dst, `",`...)
		if ttl := n.TTLSeconds(now); ttl != 0 {
			dst = append(dst, `"ttl":`...)
			dst = strconv.AppendInt(dst, ttl, 10)
			dst = append(dst, ',')
		}
	}
	return dst
}

// closeNode appends what follows on openNode and, if there is one, on a listing and its comma.
func closeNode(dst []byte, n *tree.Node) []byte {
	if n.Path == tree.Root {
		dst[len(dst)-1] = '}' // in place of the last comma: the root has no indexes
		return dst
	}
	dst = append(dst, `"modifiedIndex":`...)
	dst = strconv.AppendUint(dst, n.Modified, 10)
	dst = append(dst, `,"createdIndex":`...)
	dst = strconv.AppendUint(dst, n.Created, 10)
	return append(dst, '}')
}
