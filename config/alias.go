package config

import (
	"fmt"
	"strconv"

	"go.uber.org/zap/zapcore"
)

// alias is the name that a setting had when it was new: it is accepted, with a warning, so that command lines written for
// releases before 3.7 go on working. In files it is not known, as in etcd.
type alias struct {
	old  string
	name string // of the setting; empty: it was a switch of its own that has become a feature gate
	gate string
}

// aliases lists all old names.
//
// Source: the operations specification, 1.4.
var aliases = func() []alias {
	list := []alias{
		{old: "experimental-initial-corrupt-check", gate: GateInitialCorruptCheck},
		{old: "experimental-compact-hash-check-enabled", gate: GateCompactHashCheck},
		{old: "experimental-enable-lease-checkpoint", gate: GateLeaseCheckpoint},
		{old: "experimental-enable-lease-checkpoint-persist", gate: GateLeaseCheckpointPersist},
		{old: "experimental-stop-grpc-service-on-defrag", gate: GateStopGRPCServiceOnDefrag},
		{old: "experimental-txn-mode-write-with-shared-buffer", gate: GateTxnModeWriteWithSharedBuffer},
		{old: "experimental-set-member-localaddr", gate: GateSetMemberLocalAddr},
		{old: "experimental-snapshot-catch-up-entries", name: "snapshot-catchup-entries"},
	}
	for _, name := range []string{
		"corrupt-check-time", "compact-hash-check-time", "watch-progress-notify-interval", "warning-apply-duration",
		"warning-unary-request-duration", "max-learners", "memory-mlock", "bootstrap-defrag-threshold-megabytes",
		"compaction-batch-limit", "compaction-sleep-interval", "downgrade-check-time", "snapshot-catchup-entries",
		"peer-skip-client-san-verification", "enable-distributed-tracing", "distributed-tracing-address",
		"distributed-tracing-service-name", "distributed-tracing-instance-id", "distributed-tracing-sampling-rate",
	} {
		list = append(list, alias{old: "experimental-" + name, name: name})
	}
	return list
}()

// current is what to write instead.
func (a alias) current() string {
	if a.gate != "" {
		return "--feature-gates=" + a.gate + "=true"
	}
	return "--" + a.name
}

// aliasValue sets what an old name stands for.
type aliasValue struct {
	alias
	setting *setting // or
	on      *bool
}

// Set implements flag.Value.
func (v aliasValue) Set(text string) error {
	if v.setting != nil {
		return v.setting.Set(text)
	}
	on, err := strconv.ParseBool(text)
	if err != nil {
		return errSyntax
	}
	*v.on = on
	return nil
}

// String implements flag.Value.
func (v aliasValue) String() string { return "" }

// IsBoolFlag lets the flag package take a switch without a value.
func (v aliasValue) IsBoolFlag() bool { return v.setting == nil || v.setting.IsBoolFlag() }

// aliasValues makes the values of all old names, by name.
func (l *loader) aliasValues() map[string]aliasValue {
	values := map[string]aliasValue{}
	for _, a := range aliases {
		v := aliasValue{alias: a}
		if a.gate != "" {
			v.on = new(bool)
		} else {
			v.setting = l.find(a.name)
		}
		values[a.old] = v
	}
	return values
}

// useAlias notes that an old name was given, by flag or variable, as from says; a gate is switched at the end.
func (l *loader) useAlias(v aliasValue, from string) error {
	if v.setting != nil && l.given[v.name] {
		return fmt.Errorf("cannot specify both flags: --%s and %s", v.old, v.current())
	}
	if v.setting != nil {
		l.give(v.name, from)
	}
	l.old = append(l.old, v)
	return nil
}

// switchOldGates applies the old names that have become gates, and warns about all old names.
func (l *loader) switchOldGates() error {
	gates := &l.config.Member.Gates
	for _, v := range l.old {
		if v.gate != "" {
			if _, isSet := gates.set[v.gate]; isSet {
				return fmt.Errorf("cannot specify both flags: --%s and %s", v.old, v.current())
			}
			gates.turn(v.gate, *v.on)
			l.give("feature-gates", "--"+v.old)
		}
		l.note(zapcore.WarnLevel, fmt.Sprintf("--%s is deprecated; use %s instead", v.old, v.current()))
	}
	return nil
}
