// Command benchetcd compares Keelson with etcd: the same loads against both, in turn, on one machine in one run.
//
// It owns the scenarios, their order and the table. It leaves the load itself to `keelson bench`, which it calls as a
// program for both servers alike, and the processes to package process. Absolute figures drift from machine to machine
// and from hour to hour; the ratio in the last column is what to quote.
//
//	go run ./benchetcd -keelson ../bin/keelson            # every scenario, about a minute each
//	go run ./benchetcd -quick -run 'put|get'              # a few seconds each
//	go run ./benchetcd -run cluster-                      # three members each
//	go run ./benchetcd -run v2-                           # the v2 API, against etcd 3.4 of the distribution
//	go run ./benchetcd -run cluster-catch-up -behind 2048 # one of them two gigabytes behind
//	go run ./benchetcd -run huge -huge                    # ten million keys, Keelson alone
//
// Each scenario gets a fresh server, or three that form a cluster, on fresh directories, runs on loopback only, and is
// bounded in time: a call that takes longer than its bound fails the scenario, and the others go on.
package main
