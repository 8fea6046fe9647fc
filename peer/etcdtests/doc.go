// Command etcdtests points etcd's own tests at Keelson: the published test module, built as it is, its end-to-end and common
// suites run one test at a time against a directory that holds our program under the names etcd, etcdctl and etcdutl.
//
//	go run ./etcdtests                              # both suites of both versions that known.txt speaks of
//	go run ./etcdtests -version 3.7.1 -suite e2e    # one of them
//	go run ./etcdtests -run 'TestCtlV3Get|TestAuth' # some tests
//	go run ./etcdtests -quick                       # what takes a few minutes
//	go run ./etcdtests -suite robustness            # linearizability and what watches promise, under faults
//
// It owns the fetching and building of the tests (by the go command, in a temporary directory: nothing of etcd's comes into
// this tree), the isolation of one test from another, and the judgement. It knows nothing about what the tests do.
//
// Each test runs in a process of its own, where the system allows it in network and process namespaces of its own too: all
// of them want the same ports, what a failed one leaves behind must not disturb the next, and so several can run at a time.
//
// The robustness suite is our own, in testdata/robustness, made of the published parts of etcd's: traffic, faults, recording clients,
// and the model that judges what they saw.
//
// known.txt names what cannot pass, and why. A test that fails and is not named there fails the run; so does one that
// is named there and passes, is skipped without being named, or is not there at all: the list can't rot.
package main
