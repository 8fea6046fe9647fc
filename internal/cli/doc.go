// Package cli holds what the client commands and the offline tools say in the same way: exit codes and how an error ends
// a program, tables, sizes for people, and whether there is a terminal to draw on.
//
// It knows no command and opens no connection. `ctl` and `inspect` use it; they do not know each other.
package cli
