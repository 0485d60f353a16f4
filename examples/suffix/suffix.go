// Is a text a well-formed value? Needs no database: mistyped ones are refused.
package main

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"os"
	"regexp"
)

var shape = regexp.MustCompile(`^([a-z][a-z0-9]{0,7}\.[0-9A-Za-z]{43})/([0-9A-Z]{7})$`)

const digits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

func isWellformed(key string) bool {
	match := shape.FindStringSubmatch(key)
	if match == nil {
		return false
	}
	var bits uint64
	digest := sha256.Sum256([]byte(match[1]))
	for _, b := range digest[27:] {
		bits = bits<<8 | uint64(b)
	}
	for i := 6; i >= 0; i, bits = i-1, bits>>5 {
		if match[2][i] != digits[bits&31] {
			return false
		}
	}
	return true
}

func main() {
	answers := map[bool]string{true: "yes", false: "no"}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		fmt.Println(answers[isWellformed(lines.Text())])
	}
}
