# SPDX-License-Identifier: GPL-2.0-only
# What a shell does on a terminal: pipes, subshells, redirections, traps, jobs.
echo one two | tr a-z A-Z | sed s/TWO/THREE/
(cd /; pwd)
echo "$(echo inner $(echo innermost))"
cat <<'END' >/tmp/here
a file
END
wc -l </tmp/here
trap 'echo trapped' USR1
kill -USR1 $$
(exit 5) | cat
sh -c 'exit 5'
echo "status $?"
sh -c 'kill -SEGV $$'
echo "segv $?"
yes | head -n 3 | wc -l
sleep 100 &
job=$!
(sleep 0.5; kill $job) & # a job that ends before the shell waits for it may be forgotten: 127
wait $job
echo "terminated $?"
wait
set -m
trap : INT
echo "press C"
sleep 100
echo "interrupted $?"
echo "press Z"
sleep 100
echo "stopped $?"
jobs
bg %1
kill -KILL %1
k=0
while [ $k -lt 30000 ]; do k=$((k + 1)); done
echo $k
