package settings

import "testing"

// someValues are one or two of each kind, of which most are wrong.
var someValues = map[kind][]string{
	truth: {"x"}, unsigned: {"x"}, signed: {"x"}, duration: {"10"}, text: {"x"}, list: {"x"}, choice: {"x"},
	addresses: {"x", "http://@third"}, own: {","},
}

// TestVariables gives every setting by its variable, right, wrong and empty, and besides its flag.
func TestVariables(t *testing.T) {
	var trials []trial
	for _, s := range all {
		for _, value := range someValues[s.kind] {
			trials = append(trials, trial{env: []string{variableOf(s.name) + "=" + value}, deep: isDeep(s.name)})
		}
	}
	for _, env := range [][]string{
		{"ETCD_CONFIG_FILE="}, {"ETCD_CONFIG_FILE=@dir/none"}, {"ETCD_CONFIG_FILE=@dir"}, {"ETCD_VERSION=x"}, {"ETCD_VERSION="}, {"ETCD_NOSUCH=x"}, {"ETCD_NOSUCH="},
		{"ETCD=x"}, {"ETCD_=x"}, {"ETCD_UNSUPPORTED_ARCH=x"}, {"ETCD_HELP=true"}, {"ETCD_max_learners=x"}, {"ETCD_MAX-LEARNERS=x"},
		{"ETCD_EXPERIMENTAL_NOSUCH=x"}, {"ETCD_CLUSTER_ACTIVE_SIZE=x"}, {"ETCD_V=x"}, {"ETCD_SNAPSHOT=x"},
		{"ETCDCTL_API=3"}, {"ETCD_INITIAL_CLUSTER_STATE=none"}, {"ETCD_LOG_PACKAGE_LEVELS=x"},
		{"ETCD_MAX_LEARNERS=2", "ETCD_MAX_WALS=x", "ETCD_PRE_VOTE=x"},
	} {
		trials = append(trials, trial{env: env})
	}
	for _, r := range []trial{
		{args: []string{"--max-learners=2"}, env: []string{"ETCD_MAX_LEARNERS=2"}},
		{args: []string{"--max-learners=2"}, env: []string{"ETCD_MAX_LEARNERS=3"}},
		{args: []string{"--max-learners=2"}, env: []string{"ETCD_MAX_LEARNERS=x"}},
		{args: []string{"--max-learners=2"}, env: []string{"ETCD_MAX_LEARNERS="}},
		{args: []string{"--max-learners=x"}, env: []string{"ETCD_MAX_LEARNERS=3"}},
		{args: []string{"--max-learners=2"}, env: []string{"ETCD_PRE_VOTE=x"}},
		{args: []string{"--pre-vote"}, env: []string{"ETCD_PRE_VOTE=false"}},
		{args: []string{"--log-outputs=stdout"}, env: []string{"ETCD_LOG_OUTPUTS=stderr"}},
		{args: []string{"--cors="}, env: []string{"ETCD_CORS=*"}},
		{args: []string{"--wal-dir="}, env: []string{"ETCD_WAL_DIR=@dir/wal"}},
		{args: []string{"--initial-cluster-state=new"}, env: []string{"ETCD_INITIAL_CLUSTER_STATE=existing"}},
		{args: []string{"--version"}, env: []string{"ETCD_MAX_LEARNERS=x"}},
		{args: []string{"--config-file=@dir/none"}, env: []string{"ETCD_CONFIG_FILE=@file"}, file: "name: m1\nlog-level: none"},
		{args: []string{"--config-file="}, env: []string{"ETCD_CONFIG_FILE=@file"}, file: "name: m1\nlog-level: none"},
		{env: []string{"ETCD_CONFIG_FILE=@file", "ETCD_MAX_LEARNERS=x"}, file: inFile("").file},
		{args: []string{"--config-file=@file", "--max-learners=7"}, env: []string{"ETCD_PRE_VOTE=x"}, file: inFile("").file},
		{args: []string{"--config-file=@file", "--max-learners=x"}, file: inFile("").file},
		{args: []string{"--config-file=@file", "--max-learners=7"}, env: []string{"ETCD_MAX_LEARNERS=8"}, file: inFile("").file},
	} {
		trials = append(trials, r)
	}
	compare(t, trials)
}
