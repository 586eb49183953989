// Asks gomemcache's ServerList which server is for a key. See ../oracle.py for question and answer.
package main

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"

	"github.com/bradfitz/gomemcache/memcache"
)

// The library does not know its version; Debian does.
const debianPackage = "golang-github-bradfitz-gomemcache-dev"

type server struct {
	Host   string
	Port   int
	Unix   string
	Weight int
}

type question struct {
	Keys  []string
	Cases []struct {
		Rule    string
		Servers []server
	}
}

type answer struct {
	Version string  `json:"version"`
	Owners  [][]int `json:"owners"`
}

func main() {
	var asked question
	check(json.NewDecoder(os.Stdin).Decode(&asked))
	version, err := exec.Command("dpkg-query", "-W", "-f", "${Version}", debianPackage).Output()
	check(err)
	said := answer{Version: string(version)}
	for _, list := range asked.Cases {
		said.Owners = append(said.Owners, owners(list.Servers, asked.Keys))
	}
	check(json.NewEncoder(os.Stdout).Encode(said))
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func owners(servers []server, keys []string) []int {
	var addresses []string
	indexes := map[string]int{}
	var list memcache.ServerList
	for index, server := range servers {
		if server.Weight != 1 {
			check(fmt.Errorf("it has no weights: %v", server))
		}
		address := server.Unix
		if address == "" {
			address = net.JoinHostPort(server.Host, strconv.Itoa(server.Port))
		}
		indexes[address] = index
		addresses = append(addresses, address)
	}
	check(list.SetServers(addresses...))
	var chosen []int
	for _, key := range keys {
		bytes, err := hex.DecodeString(key)
		check(err)
		address, err := list.PickServer(string(bytes))
		check(err)
		index, known := indexes[address.String()]
		if !known {
			check(fmt.Errorf("the list has no server %s", address))
		}
		chosen = append(chosen, index)
	}
	return chosen
}
