//go:build !unix

package health

import "os"

var usr1 os.Signal // there is none
