package ctl

import (
	"context"
	"iter"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// pageKeys is how many pairs one request brings.
const pageKeys = 1000

// pairs walks over the keys of [from, end) in order, as they stood at rev (0: when the walk began), one page after the
// other, so that nothing large is ever held. An empty end has no end.
func pairs(ctx context.Context, c *clientv3.Client, from, end string, rev int64, opts ...clientv3.OpOption) iter.Seq2[*keyValue, error] {
	return func(yield func(*keyValue, error) bool) {
		for {
			ask := append([]clientv3.OpOption{clientv3.WithLimit(pageKeys), clientv3.WithRev(rev), until(end)}, opts...)
			page, err := c.Get(ctx, key(from), ask...)
			if err != nil {
				yield(nil, err)
				return
			}
			if rev == 0 {
				rev = page.Header.Revision
			}
			for _, kv := range page.Kvs {
				if !yield(kv, nil) {
					return
				}
				from = string(kv.Key) + "\x00"
			}
			if !page.More {
				return
			}
		}
	}
}

// key is a start of a range; the first of all keys has one byte.
func key(from string) string {
	if from == "" {
		return "\x00"
	}
	return from
}

func until(end string) clientv3.OpOption {
	if end == "" {
		return clientv3.WithFromKey()
	}
	return clientv3.WithRange(end)
}

// prefixEnd is where the keys with a prefix end; empty: nowhere.
func prefixEnd(prefix string) string {
	if prefix == "" {
		return ""
	}
	if end := clientv3.GetPrefixRangeEnd(prefix); end != "\x00" {
		return end
	}
	return ""
}
