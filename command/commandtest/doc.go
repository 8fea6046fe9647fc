// Package commandtest makes random commands for tests. What it makes depends on the given source alone.
package commandtest
