package tree

import "fmt"

// Code is the number of a refusal, as clients know it.
type Code uint16

// The refusals of the tree itself.
const (
	CodeKeyNotFound   Code = 100
	CodeCompareFailed Code = 101
	CodeNotFile       Code = 102
	CodeNotDir        Code = 104
	CodeExists        Code = 105
	CodeRootReadOnly  Code = 107
	CodeDirNotEmpty   Code = 108
	CodeInvalidField  Code = 209
	CodeOutdated      Code = 401
)

var codeNames = map[Code]string{
	CodeKeyNotFound: "key not found", CodeCompareFailed: "compare failed", CodeNotFile: "not a file",
	CodeNotDir: "not a directory", CodeExists: "key already exists", CodeRootReadOnly: "root is read only",
	CodeDirNotEmpty: "directory not empty", CodeInvalidField: "invalid field", CodeOutdated: "event is outdated and cleared",
}

// Error is a refusal: the same on every member.
type Error struct {
	Code  Code
	Cause string // what or where, as clients are told
	Index uint64 // the tree's index when it was refused
}

// Error implements error.
func (e *Error) Error() string { return fmt.Sprintf("tree: %s (%s)", codeNames[e.Code], e.Cause) }

// refuse makes a refusal whose index is filled in later.
func refuse(code Code, cause string) *Error { return &Error{Code: code, Cause: cause} }
