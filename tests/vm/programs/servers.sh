# SPDX-License-Identifier: GPL-2.0-only
# Redis and memcached in ring 0, with clients in ring 3 and in ring 0.
PATH=/usr/bin:/bin
ln -s /usr/bin/redis-check-rdb /tmp/redis-server # one file, several programs

start() # PORT WORDS...: a Redis of elevate's, ready
{
	port=$1
	shift
	elevate "$@" /tmp/redis-server --port $port --save '' --dir /tmp >/dev/null 2>/tmp/counts &
	until redis-cli -p $port ping >/dev/null 2>&1; do sleep 0.2; done
}

stop() # PORT
{
	redis-cli -p $1 shutdown nosave
	wait
	cat /tmp/counts
}

echo "== redis"
start 7000
redis-benchmark -p 7000 -t ping_inline,set,get,lpush,lrange_100 -n 1000 -c 10 -q | tr '\r' '\n' |
	grep 'per second'
redis-cli -p 7000 set key "a value"
redis-cli -p 7000 get key
redis-cli -p 7000 eval 'local s = 0 for k = 1, 200000 do s = s + k end return s' 0
stop 7000

echo "== both"
start 7001 -i
elevate redis-benchmark -p 7001 -t set,get -n 1000 -c 10 --threads 2 -q 2>/tmp/client |
	tr '\r' '\n' | grep 'per second'
cat /tmp/client
redis-cli -p 7001 bgsave
until redis-cli -p 7001 info persistence | grep -q rdb_bgsave_in_progress:0; do sleep 0.2; done
redis-cli -p 7001 info persistence | grep rdb_last_bgsave_status
stop 7001

memcached() # PORT USER
{
	elevate /usr/bin/memcached -u $2 -p $1 -t 4 2>/tmp/counts &
	memcached_load $1 2000
	kill $!
	wait
	cat /tmp/counts
}

echo "== memcached"
memcached 7002 root
echo "== memcached, which gives its rights away"
memcached 7003 nobody
