package suite

// FreePort is for the tests of this folder that are not in the package.
var FreePort = freePort
