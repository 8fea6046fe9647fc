package peer

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain fails if anything is left running.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
