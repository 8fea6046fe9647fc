package inspect

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"keelson/snapshot/etcddir"
)

// answerDepthMax is beyond any tree that clients make; it keeps a hostile answer from using up the stack.
const answerDepthMax = 4096

// v2Answer reads the answer to a GET of keys word by word, so that only the nodes are held, not the text:
//
//	{"action":"get","node":{"key":"/a","dir":true,"nodes":[{"key":"/a/b","value":"1","modifiedIndex":4,"createdIndex":4}], ...}}
type v2Answer struct {
	d     *json.Decoder
	yield func(etcddir.StoreNode) error
}

// readV2Answer yields the nodes of an answer, all but the root; what is in a directory comes before it.
func readV2Answer(r io.Reader, yield func(etcddir.StoreNode) error) error {
	a := v2Answer{d: json.NewDecoder(r), yield: yield}
	found := false
	err := a.fields(func(name string) error {
		if name != "node" {
			return a.skip()
		}
		found = true
		return a.node("", 0)
	})
	if err == nil && !found {
		err = fmt.Errorf("an answer without a node")
	}
	return err
}

// fields reads an object; field is called behind each of its names and reads the value.
func (a *v2Answer) fields(field func(name string) error) error {
	if err := a.expect('{'); err != nil {
		return err
	}
	for a.d.More() {
		t, err := a.d.Token()
		if err != nil {
			return err
		}
		if err := field(t.(string)); err != nil { // the decoder lets nothing but strings stand here
			return err
		}
	}
	return a.expect('}')
}

func (a *v2Answer) expect(want json.Delim) error {
	t, err := a.d.Token()
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err == nil && t != want {
		err = fmt.Errorf("%v where %v is due", t, want)
	}
	return err
}

func (a *v2Answer) skip() error { return a.d.Decode(new(json.RawMessage)) }

// node reads a node that has to be below a path.
func (a *v2Answer) node(above string, depth int) error {
	if depth > answerDepthMax {
		return fmt.Errorf("more than %d directories within each other", answerDepthMax)
	}
	var n struct {
		key, value        string
		dir               bool
		expiration        *time.Time
		modified, created uint64
	}
	err := a.fields(func(name string) error {
		switch name {
		case "key":
			return a.d.Decode(&n.key)
		case "value":
			return a.d.Decode(&n.value)
		case "dir":
			return a.d.Decode(&n.dir)
		case "expiration":
			return a.d.Decode(&n.expiration)
		case "modifiedIndex":
			return a.d.Decode(&n.modified)
		case "createdIndex":
			return a.d.Decode(&n.created)
		case "nodes":
			return a.nodes(n.key, depth)
		}
		return a.skip()
	})
	if err != nil {
		return err
	}
	if n.key == "" || n.key == "/" {
		if depth > 0 {
			return fmt.Errorf("a root within %q", above)
		}
		return nil
	}
	if depth > 0 && !strings.HasPrefix(n.key, strings.TrimSuffix(above, "/")+"/") {
		return fmt.Errorf("%.60q within %.60q", n.key, above)
	}
	node := etcddir.StoreNode{Path: n.key, Dir: n.dir, Value: n.value, Created: n.created, Modified: n.modified}
	if n.expiration != nil {
		node.Deadline = n.expiration.UnixNano()
	}
	return a.yield(node)
}

func (a *v2Answer) nodes(above string, depth int) error {
	if err := a.expect('['); err != nil {
		return err
	}
	for a.d.More() {
		if err := a.node(above, depth+1); err != nil {
			return err
		}
	}
	return a.expect(']')
}
