package v3

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain fails if anything is left running.
//
// Sections and traps named in the comments of these tests are those of the specification of etcd's v3 API.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
