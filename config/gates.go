package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Stage is how settled a feature is.
type Stage string

const (
	Alpha Stage = "ALPHA"
	Beta  Stage = "BETA"
)

// Gate is a feature that can be switched on or off.
type Gate struct {
	Name    string
	Stage   Stage
	Default bool
}

const (
	gateAllAlpha = "AllAlpha"
	gateAllBeta  = "AllBeta"

	// GateCompactHashCheck lets the leader compare hashes of compacted ranges.
	GateCompactHashCheck = "CompactHashCheck"
	// GateFastLeaseKeepAlive is always on: keep-alives never wait for the log.
	GateFastLeaseKeepAlive = "FastLeaseKeepAlive"
	// GateInitialCorruptCheck compares this member's hash with the others' before it serves.
	GateInitialCorruptCheck = "InitialCorruptCheck"
	// GateLeaseCheckpoint replicates what remains of leases.
	GateLeaseCheckpoint = "LeaseCheckpoint"
	// GateLeaseCheckpointPersist is deprecated.
	GateLeaseCheckpointPersist = "LeaseCheckpointPersist"
	// GatePriorityRequest lets lease revocations pass where other requests are refused.
	GatePriorityRequest = "PriorityRequest"
	// GateSetMemberLocalAddr binds connections to peers to the advertised address.
	GateSetMemberLocalAddr = "SetMemberLocalAddr"
	// GateStopGRPCServiceOnDefrag reports NOT_SERVING while defragmenting, which takes no time here.
	GateStopGRPCServiceOnDefrag = "StopGRPCServiceOnDefrag"
	// GateTxnModeWriteWithSharedBuffer names an optimisation of another engine.
	GateTxnModeWriteWithSharedBuffer = "TxnModeWriteWithSharedBuffer"
)

// AllGates lists every gate by name.
func AllGates() []Gate {
	return []Gate{
		{gateAllAlpha, Alpha, false},
		{gateAllBeta, Beta, false},
		{GateCompactHashCheck, Alpha, false},
		{GateFastLeaseKeepAlive, Beta, true},
		{GateInitialCorruptCheck, Alpha, false},
		{GateLeaseCheckpoint, Alpha, false},
		{GateLeaseCheckpointPersist, Alpha, false},
		{GatePriorityRequest, Alpha, false},
		{GateSetMemberLocalAddr, Alpha, false},
		{GateStopGRPCServiceOnDefrag, Alpha, false},
		{GateTxnModeWriteWithSharedBuffer, Beta, true},
	}
}

// Gates says which features were switched. The zero value has every default.
type Gates struct {
	explicit string // as given, for the log
	set      map[string]bool
}

// Set replaces the switches by the comma-separated Name=bool pairs in s.
func (g *Gates) Set(s string) error {
	next := Gates{explicit: s, set: map[string]bool{}}
	for _, pair := range strings.Split(s, ",") {
		if pair = strings.TrimSpace(pair); pair == "" {
			continue
		}
		name, value, found := strings.Cut(pair, "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if !found {
			return fmt.Errorf("missing bool value for %s", name)
		}
		on, err := strconv.ParseBool(value)
		if err != nil {
			return fmt.Errorf("invalid value of %s=%s, err: %w", name, value, err)
		}
		if !slices.ContainsFunc(AllGates(), func(gate Gate) bool { return gate.Name == name }) {
			return fmt.Errorf("unrecognized feature gate: %s", name)
		}
		next.set[name] = on
	}
	*g = next
	return nil
}

// turn switches one more feature.
func (g *Gates) turn(name string, on bool) {
	if g.set == nil {
		g.set = map[string]bool{}
	}
	if g.explicit != "" {
		g.explicit += ","
	}
	g.explicit += fmt.Sprintf("%s=%t", name, on)
	g.set[name] = on
}

// String is the list as it was given.
func (g Gates) String() string { return g.explicit }

// Enabled reports whether the named feature is on: as set, else as its stage was set as a whole, else by default.
func (g Gates) Enabled(name string) bool {
	if on, ok := g.set[name]; ok {
		return on
	}
	all := AllGates()
	i := slices.IndexFunc(all, func(gate Gate) bool { return gate.Name == name })
	if i < 0 {
		panic("config: unknown feature gate " + name)
	}
	stage := map[Stage]string{Alpha: gateAllAlpha, Beta: gateAllBeta}[all[i].Stage]
	if on, ok := g.set[stage]; ok {
		return on
	}
	return all[i].Default
}

// check refuses combinations that make no sense.
func (g Gates) check() error {
	if g.Enabled(GateLeaseCheckpointPersist) && !g.Enabled(GateLeaseCheckpoint) {
		return fmt.Errorf("enabling feature gate %s requires enabling feature gate %s",
			GateLeaseCheckpointPersist, GateLeaseCheckpoint)
	}
	return nil
}
