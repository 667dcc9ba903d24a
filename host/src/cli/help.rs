/// What stands below the list of commands.
pub const AFTER_HELP: &str = "\
VM is a name out of the configuration file, or the path of the machine's socket (such as ./vm.sock).

Configuration ($XDG_CONFIG_HOME/infinihost/config.toml, else /etc/infinihost/config.toml, or --config):
  master_file = \"master\"           # derives the secret of each machine that has a vm_id and no secret_file
  [vm.web]
  socket = \"/run/vm/web.sock\"
  vm_id = \"4c4c4544-0042-3510-8052-b4c04f4a4d31\"
  secret_file = \"web.secret\"       # mode 0600; one line end after it is not part of the secret

Exit codes:
  0   done
  1   the guest answered that the command failed, and no program's exit code says how
  64  the command line is wrong, or the agent refuses the command's fields
  66  there is no such machine, socket or file
  69  the agent does not answer: it is down, has another secret, or another client holds the socket; or what became of
      the command is not known
  70  a failure inside, such as a demo agent that died
  75  the agent takes no command now: its queue is full, or it stops
  77  refused: wrong secret, not permitted in the guest, or no permission for the socket
  78  the configuration or a secret file cannot be used, or a command was given without a secret
  124 the command's time was over
  130 Ctrl-C: the command was taken back, or left behind after a second Ctrl-C
  Where a program ran in the guest (exec, sh, scripts, and actions that run one) its own exit code comes before all of these;
  128 is a program that a signal ended, 137 one that its memory limit ended. With --json the answer tells them apart.";

/// What stands below the help of a command that the guest carries out.
pub const ORDER_HELP: &str = "\
Ctrl-C takes the command back and waits for the guest's answer; a second Ctrl-C leaves at once.
The exit code follows the guest's; infinihost --help lists the others.";
