package main

import (
	"fmt"
	"os"
	"os/exec"
)

func main() {
	c := exec.Command("go", "test", "-tags", "sim", "-count=1", "-v", "-run", "TestBugsAreFound|TestGolden", "./sim")
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	if err := c.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}
