package config

import (
	"fmt"
	"maps"
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

// gateOfStage is the gate that switches all of a stage.
var gateOfStage = map[Stage]string{Alpha: gateAllAlpha, Beta: gateAllBeta}

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
	set map[string]bool // a gate of a whole stage has set the others of it that nobody set
}

// Set replaces the switches by the comma-separated Name=bool pairs in s.
func (g *Gates) Set(s string) error {
	next := Gates{set: map[string]bool{}}
	for _, pair := range strings.Split(s, ",") {
		if pair == "" {
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
	for _, stage := range []Stage{Alpha, Beta} {
		on, isSet := next.set[gateOfStage[stage]]
		for _, gate := range AllGates() {
			if _, explicit := next.set[gate.Name]; isSet && !explicit && gate.Stage == stage {
				next.set[gate.Name] = on
			}
		}
	}
	*g = next
	return nil
}

// turn switches one more feature.
func (g *Gates) turn(name string, on bool) {
	if g.set == nil {
		g.set = map[string]bool{}
	}
	g.set[name] = on
}

// String is the list of what was set, by name.
func (g Gates) String() string {
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(g.set)) {
		pairs = append(pairs, fmt.Sprintf("%s=%t", name, g.set[name]))
	}
	return strings.Join(pairs, ",")
}

// Enabled reports whether the named feature is on: as set, else by default.
func (g Gates) Enabled(name string) bool {
	if on, ok := g.set[name]; ok {
		return on
	}
	all := AllGates()
	i := slices.IndexFunc(all, func(gate Gate) bool { return gate.Name == name })
	if i < 0 {
		panic("config: unknown feature gate " + name)
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
