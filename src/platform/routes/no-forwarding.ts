// Systems on which packets are not passed on for networks: nothing is there to be taken away, and whoever wants it is told.
import type { Firewall, FirewallRules, Sysctls } from '../../capabilities/network/ports.ts';
import { LonglineError } from '../../core/errors.ts';

/** No firewall of ours. */
export class NoFirewall implements Firewall {
  async apply(_interfaceName: string, rules: FirewallRules | undefined): Promise<boolean> {
    if (rules === undefined) return false;
    throw new LonglineError('unsupported', 'nat_subnets: address translation is to be had on Linux only');
  }

  async othersForward(): Promise<boolean> {
    return false;
  }
}

/** No settings of ours. */
export class NoSysctls implements Sysctls {
  async read(): Promise<undefined> {
    return undefined;
  }

  async ensure(): Promise<boolean> {
    throw new LonglineError('unsupported', 'forward: packets are passed on between interfaces on Linux only');
  }
}
