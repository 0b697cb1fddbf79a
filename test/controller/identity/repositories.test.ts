import { memoryRepositories } from '../../fixtures/identity-memory.ts';
import { identityRepositoryContract } from './repository-contract.ts';

identityRepositoryContract('memory', async () => ({
  repositories: memoryRepositories(),
  close: () => Promise.resolve(),
}));
