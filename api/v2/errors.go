package v2

import (
	"errors"
	"net/http"
	"strconv"

	"keelson/node"
	"keelson/state"
	"keelson/state/tree"
)

// Codes of this layer, beside those of the tree.
const (
	codeUnauthorized  tree.Code = 110
	codePrevValue     tree.Code = 201
	codeTTLNaN        tree.Code = 202
	codeIndexNaN      tree.Code = 203
	codeInvalidField  tree.Code = 209
	codeInvalidForm   tree.Code = 210
	codeRefreshValue  tree.Code = 211
	codeRefreshTTL    tree.Code = 212
	codeRaftInternal  tree.Code = 300
	codeLeaderElect   tree.Code = 301
	codeWatcherClosed tree.Code = 400
)

// Message is what clients read for a code.
//
// Source: v2 API specification, 10; the reserved codes too, which nothing emits.
var messages = map[tree.Code]string{
	tree.CodeKeyNotFound:   "Key not found",
	tree.CodeCompareFailed: "Compare failed",
	tree.CodeNotFile:       "Not a file",
	103:                    "Reached the max number of peers in the cluster",
	tree.CodeNotDir:        "Not a directory",
	tree.CodeExists:        "Key already exists",
	106:                    "The prefix of given key is a keyword in etcd",
	tree.CodeRootReadOnly:  "Root is read only",
	tree.CodeDirNotEmpty:   "Directory not empty",
	109:                    "Peer address has existed",
	codeUnauthorized:       "The request requires user authentication",
	200:                    "Value is Required in POST form",
	codePrevValue:          "PrevValue is Required in POST form",
	codeTTLNaN:             "The given TTL in POST form is not a number",
	codeIndexNaN:           "The given index in POST form is not a number",
	204:                    "Value or TTL is required in POST form",
	205:                    "The given timeout in POST form is not a number",
	206:                    "Name is required in POST form",
	207:                    "Index or value is required",
	208:                    "Index and value cannot both be specified",
	codeInvalidField:       "Invalid field",
	codeInvalidForm:        "Invalid POST form",
	codeRefreshValue:       "Value provided on refresh",
	codeRefreshTTL:         "A TTL must be provided on refresh",
	codeRaftInternal:       "Raft Internal Error",
	codeLeaderElect:        "During Leader Election",
	codeWatcherClosed:      "watcher is cleared due to etcd recovery",
	tree.CodeOutdated:      "The event in requested index is outdated and cleared",
	402:                    "Standby Internal Error",
	403:                    "Invalid active size",
	404:                    "Standby remove delay",
	500:                    "Client Internal Error",
}

// statusOf is the HTTP status that goes with a code.
func statusOf(code tree.Code) int {
	switch code {
	case tree.CodeKeyNotFound:
		return http.StatusNotFound
	case tree.CodeNotFile, tree.CodeDirNotEmpty:
		return http.StatusForbidden
	case tree.CodeExists, tree.CodeCompareFailed:
		return http.StatusPreconditionFailed
	case codeUnauthorized:
		return http.StatusUnauthorized
	case codeRaftInternal, codeLeaderElect:
		return http.StatusInternalServerError
	}
	return http.StatusBadRequest
}

func fault(code tree.Code, cause string) *tree.Error { return &tree.Error{Code: code, Cause: cause} }

// causes is the table from what the packages below fail with to what stands in an error of code 300.
var causes = []struct {
	err   error
	cause string
}{
	{node.ErrTimeoutLeaderFail, "etcdserver: request timed out, possibly due to previous leader failure"},
	{node.ErrTimeoutConnectionLost, "etcdserver: request timed out, possibly due to connection lost"},
	{node.ErrTimeoutApplied, "etcdserver: request timed out, waiting for the applied index took too long"},
	{node.ErrTimeout, "etcdserver: request timed out"},
	{node.ErrStopped, "etcdserver: server stopped"},
	{node.ErrNoLeader, "etcdserver: no leader"},
	{node.ErrLeaderChanged, "etcdserver: leader changed"},
	{node.ErrTooManyRequests, "etcdserver: too many requests"},
	{node.ErrTooLarge, "etcdserver: request is too large"},
	{node.ErrCanceled, "etcdserver: request cancelled"},
	{node.ErrDropped, "raft proposal dropped"},
	{state.ErrNoSpace, "etcdserver: mvcc: database space exceeded"},
	{state.ErrCorrupt, "etcdserver: corrupt cluster"},
}

// failureOf makes an error of code 300 of what is no matter of the tree.
func failureOf(err error) *tree.Error {
	for _, c := range causes {
		if errors.Is(err, c.err) {
			return fault(codeRaftInternal, c.cause)
		}
	}
	return fault(codeRaftInternal, err.Error())
}

// writeError answers a request for keys with an error.
func writeError(out outlet, e *tree.Error) {
	body := append(out.buffer(), `{"errorCode":`...)
	body = strconv.AppendUint(body, uint64(e.Code), 10)
	body = append(body, `,"message":`...)
	body = appendString(body, messages[e.Code])
	if e.Cause != "" {
		body = append(body, `,"cause":`...)
		body = appendString(body, e.Cause)
	}
	body = append(body, `,"index":`...)
	body = strconv.AppendUint(body, e.Index, 10)
	body = append(body, "}\n"...)
	out.whole(answerHead{status: statusOf(e.Code), index: e.Index}, body, len(body))
}

var contentJSON = []string{"application/json"}
