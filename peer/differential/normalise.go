package differential

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// normaliseHeaders replaces the ids and terms of every response header in the tree by whether they were set. That they
// are set is part of the answer: a header inside a transaction's reply has a revision only.
func normaliseHeaders(m protoreflect.Message) {
	if header, ok := m.Interface().(*pb.ResponseHeader); ok {
		normaliseHeader(header)
		return
	}
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		if field.Message() == nil || field.IsMap() {
			return true
		}
		if !field.IsList() {
			normaliseHeaders(value.Message())
			return true
		}
		for i := range value.List().Len() {
			normaliseHeaders(value.List().Get(i).Message())
		}
		return true
	})
}

func normaliseHeader(h *pb.ResponseHeader) {
	if h == nil {
		return
	}
	if h.ClusterId != 0 {
		h.ClusterId = 1
	}
	if h.MemberId != 0 {
		h.MemberId = 1
	}
	if h.RaftTerm != 0 {
		h.RaftTerm = 1
	}
}
